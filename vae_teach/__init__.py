"""vae_teach: what the lessons on variational autoencoders import, one idea a module."""

from vae_teach.speed.memory import return_large_blocks

__version__ = "0.1.0"

return_large_blocks()
