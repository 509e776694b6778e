"""Formulas in LaTeX, as the lessons write them, turned into numbers.

An array has three axes: images or draws; points z; pixels, or dimensions of z. An axis
is of length 1 where a value does not depend on it. A density of z is a probability for
each point, so that an integral over z is a sum. What has two axes is a matrix.
"""

import re

import numpy as np
from scipy.special import expit, ndtr, rel_entr, softmax

AXES = {"n": -3, "i": -3, "k": -3, "z": -2, "d": -1, "j": -1}
RELATIONS = {"=", "<", ">", r"\le", r"\ge", r"\approx", r"\sim"}
OPEN, CLOSE = {"(", "[", "{", r"\lVert"}, {")", "]", "}", r"\rVert"}
BRACKETS = {"(", "[", "{"}
ENDS = CLOSE | {"", "+", "-"}  # of a product
STEP = 1e-5  # of a slope, by central differences
EXPECTED = r"\mathbb{E}"  # its value: the density under an average that names none
FUNCTIONS = {r"\log": np.log, r"\sin": np.sin, r"\cos": np.cos}
COMMON = {
    "e": np.e,
    "I": 1.0,
    r"\pi": np.pi,
    r"\Phi": ndtr,
    r"\mathrm{sigmoid}": expit,
    r"\mathrm{softmax}": lambda logits: softmax(logits, -1),
    r"\mathcal{N}": lambda mean, variance: (mean, variance),
    r"\mathcal{N}(0, 1)": (0, 1),
    r"\mathcal{N}(0, I)": (0, 1),
}

# A slope is written in many ways; each becomes \nabla_{by}{of}.
BY = r"(\\log \\sigma\^2|\\?[a-z]+)"
REWRITTEN = [
    (r"\\\\|&|\\[,;: ]|\\(?:begin|end)\{\w+\}|\\textstyle", " "),  # only how it looks
    (r"\\(?:left|right|[bB]igg?)(?![a-z])|\\!", ""),
    (r"\\qquad", ","),
    (r"\\tfrac", r"\\frac"),
    (rf"\\frac\{{d\}}\{{d{BY}\}}", r"\\nabla_{\1}"),
    (rf"\\frac\{{\\partial ([^{{}}]*)\}}\{{\\partial {BY}\}}", r"\\nabla_{\2}{\1}"),
    (rf"\\partial ?/ ?\\partial {BY}", r"\\nabla_{\1}{\\partial}"),
    (rf"\\partial ?([^ /]+) ?/ ?\\partial {BY}", r"\\nabla_{\2}{\1}"),
    (rf"\bd(\w(?:\(\w\))?)/d{BY}", r"\\nabla_{\2}{\1}"),
    (r"(?<![\w\\{_])d[a-z]\b", ""),  # the end of an integral
]
TOKEN = r"\\(?:math|text)\w*\{[^{}]*\}|\\[a-zA-Z]+|\\.|\d+(?:\.\d+)?|\S"


def tokens(formula):
    """Return the parts of a formula that mean something."""
    for pattern, by in REWRITTEN:
        formula = re.sub(pattern, by, formula)
    return re.findall(TOKEN, formula.strip().rstrip(".,"))


def plain(formula):
    """Return a formula in the one form in which it is looked up."""
    return " ".join(tokens(formula))


def split(parts, marks):
    """Cut tokens at the marks that stand outside brackets: piece, mark, piece, ..."""
    pieces, depth = [[]], 0
    for part in parts:
        depth += (part in OPEN) - (part in CLOSE)
        if part in marks and depth == 0:
            pieces += [part, []]
        else:
            pieces[-1].append(part)
    return pieces


def cube(value):
    """Return an array with all three axes."""
    value = np.asarray(value)
    return value.reshape((1,) * (3 - value.ndim) + value.shape)


class Value:
    """One side of a formula, computed from left to right.

    ``work`` counts what there was to do: nothing for a name, a number or log p(x).
    ``named`` tells whether there is a name in it; ``unknown`` holds those that have no
    value, and ``claims`` pairs that must agree.
    """

    def __init__(self, parts, names, *, alone=False, nested=False):
        self.parts, self.names, self.alone, self.at = parts, names, alone, 0
        self.work, self.named, self.unknown, self.claims = 0, False, set(), []
        self.work += nested and parts[0] == "-" and not "".join(parts[1:]).isdigit()
        digits = re.fullmatch(r"(?:(?:-|\\pm) )?\d+\.(\d+)", " ".join(parts))
        self.rounding = 0.5 * 10.0 ** -len(digits[1]) if digits else 0.0
        self.value = self.sum()
        if self.at < len(parts):
            raise ValueError(f"cannot be read from {' '.join(parts[self.at :])}")

    # --- going along the tokens ---

    @property
    def next(self):
        return self.parts[self.at] if self.at < len(self.parts) else ""

    def take(self, *wanted):
        """Go past the next token, if it is one of those wanted, and return it."""
        if not self.next or (wanted and self.next not in wanted):
            return ""
        self.at += 1
        return self.parts[self.at - 1]

    def inside(self):
        """Return the tokens in the bracket that opens here, or the one token here."""
        start, depth = self.at, 0
        while part := self.take():
            depth += (part in OPEN) - (part in CLOSE)
            if depth <= 0:
                break
        return self.parts[start + 1 : self.at - 1] or self.parts[start : self.at]

    def since(self, start):
        return " ".join(self.parts[start : self.at])

    def part(self, parts, names=None):
        """Compute other tokens, as a part of this."""
        inner = Value(parts, names or self.names, nested=True)
        self.work, self.unknown = self.work + inner.work, self.unknown | inner.unknown
        self.claims, self.named = self.claims + inner.claims, self.named or inner.named
        return inner.value

    def known(self, name):
        self.named = True
        self.unknown |= {name} - self.names.keys()
        return self.names.get(name, np.nan)

    # --- sums, products, powers, factors ---

    def sum(self):
        sign = self.take("+", "-", r"\pm")
        total = self.product()
        total = -total if sign == "-" else total
        while sign := self.take("+", "-"):
            term, self.work = self.product(), self.work + 1
            total = total - term if sign == "-" else total + term
        return total

    def product(self, ends=ENDS):
        value = self.power()
        while self.next not in ends:
            divided = self.take("/")
            factor, self.work = self.power(), self.work + 1
            if np.ndim(value) == np.ndim(factor) == 2:
                value = value @ factor
            else:
                value = value / factor if divided else value * factor
        return value

    def operand(self, ends=()):
        """Compute what an operator works on: what is in its brackets, or a product."""
        if self.next in BRACKETS:
            return self.part(self.inside())
        return self.product(ENDS.union("/", ends))

    def power(self):
        base, before = self.next, self.work
        value = self.factor()
        while self.take("^"):
            if self.take(r"\top"):
                value = value.T
                continue
            exponent = self.inside()
            value = value ** self.part(exponent)
            variance = base == r"\sigma" and exponent == ["2"]
            if variance or (base.isdigit() and exponent[-1].isdigit()):
                self.work = before  # this and a power of ten are like names
            else:
                self.work += 1
        return value

    def factor(self):
        start = self.at
        if self.whole():
            self.named = True
            return self.names[self.since(start)]
        part = self.take()
        if part in BRACKETS:
            self.at = start
            pieces = [self.part(piece) for piece in split(self.inside(), {","})[::2]]
            return pieces[0] if len(pieces) == 1 else tuple(pieces)
        if part == "|":
            end = self.parts.index("|", self.at)
            value, self.at = self.part(self.parts[self.at : end]), end + 1
            return abs(value)
        if part[:1].isdigit():
            return float(part)
        return getattr(self, OPERATORS.get(part, "name"))(part)

    def whole(self):
        """Go past a name and what stands in brackets after it, if that has a value.

        What stands alone is computed, to be compared with that value.
        """
        start = self.at
        if self.alone and (
            self.next in OPERATORS or callable(self.names.get(self.next))
        ):
            return False
        self.take()
        while self.take("_") and self.inside():
            pass
        if self.next in BRACKETS and self.inside() and self.since(start) in self.names:
            return True
        self.at = start
        return False

    def name(self, part):
        start = self.at - 1
        if part in {r"\bar", r"\hat"}:
            self.inside()
        while self.take("'") or (self.take("_") and self.inside()):
            pass
        if self.since(start) not in self.names and self.next == "(":
            self.inside()
        value = self.known(self.since(start))
        if not callable(value) or self.next != "(":
            return value
        self.work += 1
        return value(*map(self.part, split(self.inside(), {","})[::2]))

    # --- operators ---

    def function(self, part):
        base = self.part(self.inside()) if self.take("_") else np.e
        power = self.part(self.inside()) if self.take("^") else 1
        self.work += self.next in BRACKETS
        return (FUNCTIONS[part](self.operand(FUNCTIONS)) / np.log(base)) ** power

    def fraction(self, _):
        above, below = self.inside(), self.inside()
        self.work += not "".join(above + below).isdigit()
        return self.part(above) / self.part(below)

    def root(self, _):
        self.work += 1
        return np.sqrt(self.part(self.inside()))

    def norm(self, _):
        self.at -= 1
        self.work += 1
        return np.sqrt(np.sum(cube(self.part(self.inside())) ** 2, -1, keepdims=True))

    def total(self, part):
        index = self.inside() if self.take("_") else ["z"]
        last = self.inside() if self.take("^") else []
        terms, axis = cube(self.product()), AXES[index[0]]
        self.work += 1
        if last:
            first = self.part(index[2:])
            count = self.part(last) - first + 1
            self.claims.append((count, terms.shape[axis]))
        return (np.prod if part == r"\prod" else np.sum)(terms, axis, keepdims=True)

    def weights(self):
        """Return the density under an average, and the axis on which it lies."""
        start = self.at - 1
        parts = self.inside() if self.take("_") else []
        own = self.since(start) in self.names or not parts
        density = cube(self.known(self.since(start)) if own else self.part(parts))
        return density, -2 if density.shape[-2] > 1 else -3

    def mean(self, _):
        density, axis = self.weights()
        return np.sum(density * self.operand(), axis, keepdims=True)

    def variance(self, _):
        self.parts[self.at - 1] = EXPECTED
        density, axis = self.weights()
        values = self.operand()
        mean = np.sum(density * values, axis, keepdims=True)
        return np.sum(density * (values - mean) ** 2, axis, keepdims=True)

    def divergence(self, part):
        if self.next != "(":
            return self.known(part)
        q, _, p = split(self.inside(), {r"\|"})
        terms = rel_entr(cube(self.part(q)), cube(self.part(p)))
        return np.sum(terms, -2, keepdims=True)

    def slope(self, part):
        along = self.names.get(part, ())
        if self.take("_"):
            along = [" ".join(self.inside())]
        if not along:
            return self.known(part)
        start = self.at
        self.operand()
        parts, slopes = self.parts[start : self.at], []
        for name in along:
            up, down = (
                self.part(parts, self.names.moved(name, by)) for by in (STEP, -STEP)
            )
            slopes.append((up - down) / (2 * STEP))
        return np.stack(slopes) if len(slopes) > 1 else slopes[0]

    def braced(self, _):
        value = self.part(self.inside())
        below = self.inside() if self.take("_") else []
        if not any(part.startswith(r"\text") for part in below):
            called = self.part(below)
            self.claims.append((value, called))
        return value


OPERATORS = dict.fromkeys(FUNCTIONS, "function") | {
    r"\frac": "fraction",
    r"\sqrt": "root",
    r"\sum": "total",
    r"\prod": "total",
    r"\int": "total",
    r"\lVert": "norm",
    EXPECTED: "mean",
    r"\mathrm{Var}": "variance",
    r"\mathrm{KL}": "divergence",
    r"\nabla": "slope",
    r"\underbrace": "braced",
}


def read(formula, names):
    """Return what a formula says: triples of a Value, a relation and a Value.

    A side without a relation is alone: (Value, "", None). Of the first side a name may
    mean something else before a relation: ``names["z \\sim"]`` is the law of z.
    """
    said = []
    for statement in filter(None, split(tokens(formula), {","})[::2]):
        first, *rest = split(statement, RELATIONS)
        before = " ".join([*first, *rest[:1]])
        if rest and (before in names or rest[0] == r"\sim"):
            first = [before]
        sides = [first, *rest[1::2]]
        values = [Value(side, names, alone=not rest) for side in sides]
        said += zip(values, rest[::2], values[1:], strict=False)
        if not rest:
            said.append((values[0], "", None))
    return said


def agree(a, relation, b, rounding=0.0):
    """Return whether two values stand in a relation; a tuple, part by part."""
    if isinstance(a, tuple) or isinstance(b, tuple):
        parts = zip(a, b, strict=True)
        return all(agree(x, relation, y) for x, y in parts)
    a, b = np.asarray(a), np.asarray(b)
    slack = 1e-6 * (np.abs(a) + np.abs(b)) + 1e-9 + rounding
    if relation == r"\approx":
        return True  # it does not say how near
    if relation in {"<", r"\le"}:
        return bool(np.all(a <= b + slack))
    if relation in {">", r"\ge"}:
        return bool(np.all(a >= b - slack))
    return bool(np.all(np.abs(a - b) <= slack))
