"""The names that the semantics of operations go by, as NumPy, SciPy and Python's operators have them."""

from __future__ import annotations

import operator

PRODUCT, EVALUATION, ARITHMETIC, COPY, FILL = "product", "evaluation", "arithmetic", "copy", "fill"
KINDS = (PRODUCT, EVALUATION, ARITHMETIC, COPY, FILL)

EVALUATIONS = frozenset(
    (
        *("exp", "exp2", "expm1", "expit", "log", "log2", "log10", "log1p", "logaddexp", "log_expit", "logit", "erf"),
        *("sin", "cos", "tan", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan", "arctan2", "power", "float_power"),
        *("cbrt", "hypot", "xlogy", "softmax", "log_softmax"),
    )
)
"""Functions that take a series or a table, by NumPy's and SciPy's names."""

CHEAP_POWERS = (-1.0, 0.0, 0.5, 1.0, 2.0)
"""Exponents that NumPy replaces by a reciprocal, a root or a multiplication."""

REDUCTIONS = frozenset(
    (
        *("sum", "nansum", "prod", "mean", "average", "max", "min", "amax", "amin", "nanmax", "nanmin", "argmax"),
        *("argmin", "any", "all", "cumsum", "cumprod", "count_nonzero", "norm", "var", "std", "ptp", "median"),
    )
)
PER_ELEMENT = {"norm": 2, "var": 4, "std": 4}
"""Operations for every element that goes in, where it is not one."""

COPIES = frozenset(
    (
        *("concatenate", "stack", "hstack", "vstack", "dstack", "column_stack", "row_stack", "append", "insert"),
        *("delete", "pad", "tile", "repeat", "block", "roll", "copy", "astype", "flatten", "take", "compress"),
        *("array", "asarray", "ascontiguousarray", "asfortranarray", "asanyarray", "require", "reshape", "ravel"),
        *("transpose", "swapaxes", "squeeze", "atleast_1d", "atleast_2d", "expand_dims", "broadcast_to", "flip"),
        *("sort", "argsort", "unique", "tolist", "fromiter", "copyto", "put", "resize"),
        *("moveaxis", "rollaxis", "take_along_axis", "extract", "diag", "triu", "tril", "split", "array_split"),
        *("ix_", "meshgrid", "view", "setfield", "byteswap", "newbyteorder", "nonzero", "flatnonzero"),
    )
)
"""Movers of elements; those that may give a view move nothing when they do."""

FILLS = frozenset(
    (
        *("zeros", "ones", "full", "eye", "identity", "arange", "linspace", "zeros_like", "ones_like", "full_like"),
        *("fill", "empty", "empty_like", "random", "standard_normal", "normal", "uniform", "permutation", "shuffle"),
        *("integers", "randn", "rand", "randint", "choice", "binomial", "random_sample"),
    )
)
"""Makers of arrays out of nothing."""

SILENT = frozenset(
    (
        *("item", "shape", "ndim", "size", "shares_memory", "may_share_memory", "finfo", "iinfo", "result_type"),
        *("isscalar", "iterable", "seterr", "errstate", "print", "isinstance", "len", "range", "enumerate", "zip"),
        *("reversed", "id", "type", "getattr", "hasattr", "setattr", "array_equal", "allclose", "isclose", "repr"),
        *("str", "append", "extend", "insert", "pop", "items", "keys", "values", "get", "iter", "next", "list"),
        *("tuple", "dict", "set", "slice", "int", "bool", "copy", "index", "perf_counter", "time", "setflags"),
    )
)
"""Builtins and helpers of no arithmetic, also where arrays are among their arguments."""

OPERATOR_NAMES = {
    operator.add: "add",
    operator.iadd: "add",
    operator.sub: "subtract",
    operator.isub: "subtract",
    operator.mul: "multiply",
    operator.imul: "multiply",
    operator.truediv: "divide",
    operator.itruediv: "divide",
    operator.floordiv: "floor_divide",
    operator.ifloordiv: "floor_divide",
    operator.mod: "remainder",
    operator.imod: "remainder",
    operator.pow: "power",
    operator.ipow: "power",
    operator.matmul: "matmul",
    operator.imatmul: "matmul",
    operator.neg: "negative",
    operator.pos: "positive",
    operator.invert: "invert",
    operator.lt: "less",
    operator.le: "less_equal",
    operator.gt: "greater",
    operator.ge: "greater_equal",
    operator.eq: "equal",
    operator.ne: "not_equal",
    operator.and_: "bitwise_and",
    operator.iand: "bitwise_and",
    operator.or_: "bitwise_or",
    operator.ior: "bitwise_or",
    operator.xor: "bitwise_xor",
    operator.ixor: "bitwise_xor",
    operator.lshift: "left_shift",
    operator.rshift: "right_shift",
}

UFUNC_LIKE = frozenset(
    (
        *OPERATOR_NAMES.values(),
        *("square", "absolute", "clip", "where", "select", "choose", "round", "around", "nan_to_num", "real"),
        *("conj", "conjugate"),
    )
)
BUILTIN_UFUNCS = {"abs": "absolute", "pow": "power", "round": "round", "divmod": "divmod"}
"""Python's builtins that work on arrays as ufuncs do."""

MATH = frozenset(("exp", "expm1", "tanh", "log", "log1p", "pow", "sqrt", "sin", "cos", "fabs", "erf"))
