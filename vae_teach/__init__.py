"""vae_teach: what the lessons on variational autoencoders import, one idea a module."""

__version__ = "0.1.0"
