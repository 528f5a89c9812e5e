"""The flaws of `python -m reports.advise.mutants`: by category, each in several forms.

Most are patterns (`reports.advise.planting`); those that need more than one place of the program are functions.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from reports.advise.planting import Change, Code, Form, Region, Sites, holes, is_simple, replacing

PRODUCT = ("A_ @ B_", "np.dot(A_, B_)", "np.matmul(A_, B_)", "A_.dot(B_)")
WEIGHTED_SUM = ("A_ @ B_ + C_", "np.dot(A_, B_) + C_")
GRADIENT = ("A_.T @ D_", "np.dot(A_.T, D_)")
SIGMOID = ("1 / (1 + np.exp(-Z_))", "1.0 / (1.0 + np.exp(-Z_))")
COLUMN_SUM = ("D_.sum(axis=0)", "np.sum(D_, axis=0)")
FUNCTIONS = ("tanh", "exp", "maximum", "where", "sqrt")
"""Functions of NumPy that take long enough for a second evaluation to matter."""

ONES = "np.ones((len(A_), 1), A_.dtype)"
"""A column of ones."""

DIES = ("dead-computation",)
DATA = ("gather", "work-in-step", "recomputation", "temporaries", "slow-primitive")
SECOND = ("recomputation", "dead-computation", "work-in-step")


def again(code: Code) -> Iterator[list[Change]]:
    """A later use of a variable evaluates its expression again."""
    for value, use in _uses(code):
        if any(_is_evaluation(one) for one in ast.walk(value)):
            yield [code.instead(use, code.of(value))]


def product_again(code: Code) -> Iterator[list[Change]]:
    """A later use of a variable multiplies the same matrices again."""
    for value, use in _uses(code):
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.MatMult):
            yield [code.instead(use, code.of(value))]


def written_out(code: Code) -> Iterator[list[Change]]:
    """A later use of the sigmoid's value evaluates the sigmoid, written out."""
    for value, use in _uses(code):
        if isinstance(value, ast.Call) and len(value.args) == 1 and "sigm" in ast.unparse(value.func):
            yield [code.instead(use, f"1 / (1 + np.exp(-({code.of(value.args[0])})))")]


def kept_argument(code: Code) -> Iterator[list[Change]]:
    """A method keeps the argument of the activation, and another one evaluates the activation on it again."""
    for statement in code.nodes("step"):
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Attribute):
            continue
        value, target = statement.value, statement.targets[0]
        if not (isinstance(value, ast.Call) and len(value.args) == 1 and ast.unparse(target.value) == "self"):
            continue
        function, name = ast.unparse(value.func), f"self.argument_of_{target.attr}"
        owner = next(code.up(statement))
        kept = code.before(statement, f"{name} = {code.of(value.args[0])}")
        for use in code.nodes("step"):
            is_same = isinstance(use, ast.Attribute) and ast.unparse(use) == ast.unparse(target)
            if kept and is_same and isinstance(getattr(use, "ctx", None), ast.Load) and owner not in code.up(use):
                yield [kept, code.instead(value.args[0], name), code.instead(use, f"{function}({name})")]


def unguarded(code: Code) -> Iterator[list[Change]]:
    """The input delta is computed: the test that leaves it out goes."""
    for node in code.nodes("step"):
        if isinstance(node, ast.If) and not node.orelse and any(isinstance(one, ast.MatMult) for one in ast.walk(node)):
            yield [code.instead(node.test, "True")]
        if isinstance(node, ast.IfExp) and isinstance(node.body, ast.Constant):
            yield [code.instead(node, code.of(node.orelse))]


def input_delta(code: Code) -> Iterator[list[Change]]:
    """The delta of the layer below is computed where a gradient is, and nobody uses it."""
    weights: dict[str, str] = {}
    for node in code.nodes("step"):
        for number, pattern in enumerate(("A_ @ W_", "np.dot(A_, W_)", "W_ @ A_", "np.dot(W_, A_)")):
            held = holes(ast.parse(pattern, mode="eval").body, node)
            if held is not None and all(map(is_simple, held.values())):
                is_row = number < 2
                weights[code.of(held["A_"]) + str(is_row)] = code.of(held["W_"])
    for node in code.nodes("step"):
        for pattern, is_row in (
            ("A_.T @ D_", True),
            ("np.dot(A_.T, D_)", True),
            ("D_ @ A_.T", False),
            ("np.dot(D_, A_.T)", False),
        ):
            held = holes(ast.parse(pattern, mode="eval").body, node)
            if held is None or not is_simple(held["D_"]):
                continue
            W, D = weights.get(code.of(held["A_"]) + str(is_row)), code.of(held["D_"])
            change = code.before(node, f"delta_below = {D} @ {W}.T" if is_row else f"delta_below = {W}.T @ {D}")
            if W is not None and change is not None and W != D and "delta_below" not in code.text:
                yield [change]


def unread(template: str) -> Sites:
    """After an array is made, something is computed from it that nobody reads."""

    def sites(code: Code) -> Iterator[list[Change]]:
        for statement in code.nodes("step"):
            if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
                continue
            target = statement.targets[0]
            is_large = any(isinstance(one, ast.MatMult) or _is_evaluation(one) for one in ast.walk(statement.value))
            if is_large and isinstance(target, ast.Name | ast.Attribute) and _is_alone(statement, code):
                yield [code.after(statement, template.replace("V_", code.of(target)))]

    return sites


def replaced_zeros(code: Code) -> Iterator[list[Change]]:
    """An array of zeros is made, and the result of a product takes its place."""
    pattern = ast.parse("T_ = A_ @ B_").body[0]
    for node in code.nodes("step"):
        held = holes(pattern, node)
        if held and is_simple(held["A_"]) and is_simple(held["B_"]) and isinstance(held["T_"], ast.Name):
            T, A, B = (code.of(held[name]) for name in ("T_", "A_", "B_"))
            change = code.before(node, f"{T} = np.zeros(({A}.shape[0], {B}.shape[1]), {A}.dtype)")
            if change is not None:
                yield [change]


def without_out(code: Code) -> Iterator[list[Change]]:
    """A result gets a new array in place of `out=`."""
    for node in code.nodes("step"):
        if not isinstance(node, ast.Call):
            continue
        out = next((one.value for one in node.keywords if one.arg == "out"), None)
        if out is None:
            continue
        rest = [*map(code.of, node.args), *(f"{k.arg}={code.of(k.value)}" for k in node.keywords if k.value is not out)]
        call = f"{code.of(node.func)}({', '.join(rest)})"
        parent = code.parents[node]
        if not isinstance(parent, ast.Expr):
            yield [code.instead(node, call)]
        elif isinstance(out, ast.Name | ast.Attribute | ast.Subscript):
            yield [code.instead(parent, f"{code.of(out)} = {call}")]


def without_dtype(code: Code) -> Iterator[list[Change]]:
    """An array that is made gets the usual dtype, float64."""
    for region in ("set-up", "step", "around"):
        for node in code.nodes(region):
            if not isinstance(node, ast.Call):
                continue
            for one in node.keywords:
                if one.arg == "dtype" and "float" not in ast.unparse(node.func) and not _is_double(one.value):
                    rest = [*node.args, *(k for k in node.keywords if k is not one)]
                    yield [code.instead(node, f"{code.of(node.func)}({', '.join(map(code.of, rest))})")]


def all_double(code: Code) -> Iterator[list[Change]]:
    """The whole program computes in double precision."""
    found = [
        node for node in ast.walk(code.tree) if isinstance(node, ast.Attribute) and ast.unparse(node) == "np.float32"
    ]
    if found:
        yield [code.instead(node, "np.float64") for node in found]


def of_set_up(template: str) -> Sites:
    """A large array that is made before the training gets another form."""

    def sites(code: Code) -> Iterator[list[Change]]:
        for node in code.nodes("set-up"):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "astype":
                yield [code.instead(node, template.replace("V_", code.of(node)))]

    return sites


def second_call(code: Code) -> Iterator[list[Change]]:
    """A function of the program that multiplies by weights is called again at the end of the step."""
    functions = {
        node.name
        for node in ast.walk(code.tree)
        if isinstance(node, ast.FunctionDef) and any(isinstance(one, ast.MatMult) for one in ast.walk(node))
    }
    for node in code.nodes("step"):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        statement = code.statement(node)
        block = _block(statement, code)
        if name in functions and isinstance(statement, ast.Assign | ast.Expr) and "ack" not in name and block:
            last = block[-1] if not isinstance(block[-1], ast.Return) else block[-2]
            yield [code.after(last, f"second_output = {code.of(node)}")]
            if last is not statement:
                yield [code.after(statement, f"second_output = {code.of(node)}")]


def second_loop(code: Code) -> Iterator[list[Change]]:
    """The loop over the layers that propagates forward runs a second time."""
    for node in code.nodes("step"):
        if not isinstance(node, ast.For) or any(isinstance(one, ast.AugAssign) for one in ast.walk(node)):
            continue
        block = _block(node, code)
        place = block.index(node) if node in block else 0
        before = block[place - 1] if place else None
        text = f"{code.of(before)}\n" if isinstance(before, ast.Assign) else ""
        body = ast.get_source_segment(code.text, node, padded=True) or ""
        lines = [line[node.col_offset :] for line in body.splitlines()]
        if text and "ack" not in body and "revers" not in body:
            yield [code.after(node, text + "\n".join(lines))]


def evaluation(code: Code) -> Iterator[list[Change]]:
    """What is evaluated once an epoch is evaluated in every step."""
    for node in ast.walk(code.tree):
        if not isinstance(node, ast.For):
            continue
        inner = [one for one in node.body if isinstance(one, ast.For)]
        for statement in node.body[node.body.index(inner[-1]) + 1 :] if inner else ():
            is_plain = isinstance(statement, ast.Assign) and "print" not in code.of(statement)
            if is_plain and any(isinstance(one, ast.Call) for one in ast.walk(statement)):
                yield [code.after(inner[-1].body[-1], code.of(statement))]


def at_the_end(template: str) -> Sites:
    """A statement at the end of the block in which a difference is computed."""

    def sites(code: Code) -> Iterator[list[Change]]:
        pattern = ast.parse("T_ = A_ - B_").body[0]
        for node in code.nodes("step"):
            held = holes(pattern, node)
            block = _block(node, code) if isinstance(node, ast.stmt) else []
            if held and block and isinstance(held["T_"], ast.Name) and isinstance(node, ast.stmt):
                yield [code.after(node, template.replace("T_", code.of(held["T_"])))]

    return sites


def taken_again(code: Code) -> Iterator[list[Change]]:
    """A later use of a batch takes its rows from the set again."""
    for region in ("step", "around"):
        for value, use in _uses(code, region):
            if isinstance(value, ast.Subscript) and isinstance(value.slice, ast.Name) and _is_batch(value):
                yield [code.instead(use, code.of(value))]


def shuffled(template: str) -> Sites:
    """A batch that is a part of the set is taken from something made of the whole set."""

    def sites(code: Code) -> Iterator[list[Change]]:
        for region in ("step", "around"):
            for node in code.nodes(region):
                if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and _is_batch(node):
                    yield [code.instead(node.value, template.replace("X_", code.of(node.value)))]

    return sites


def row_by_row(template: str) -> Sites:
    """The rows of a batch are taken one by one."""

    def sites(code: Code) -> Iterator[list[Change]]:
        for region in ("step", "around"):
            for node in code.nodes(region):
                if not isinstance(node, ast.Subscript) or not isinstance(node.ctx, ast.Load) or not _is_batch(node):
                    continue
                if isinstance(node.slice, ast.Slice):
                    if not (node.slice.lower and node.slice.upper):
                        continue
                    rows = f"range({code.of(node.slice.lower)}, {code.of(node.slice.upper)})"
                else:
                    rows = code.of(node.slice)
                yield [code.instead(node, template.replace("X_", code.of(node.value)).replace("R_", rows))]

    return sites


def _is_batch(node: ast.Subscript) -> bool:
    """Whether it takes rows of an array: a part between two bounds, or those of an array with numbers."""
    name = ast.unparse(node.slice)
    is_part = isinstance(node.slice, ast.Slice) and node.slice.lower is not None and node.slice.step is None
    is_rows = isinstance(node.slice, ast.Name) and name in ("rows", "batch", "index", "part", "order", "idx", "picked")
    return isinstance(node.value, ast.Name | ast.Attribute) and (is_part or is_rows)


def _is_evaluation(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = ast.unparse(node.func)
    return name.removeprefix("np.") in FUNCTIONS or any(
        word in name for word in ("sigm", "softmax", "relu", "logistic")
    )


def _is_double(node: ast.AST) -> bool:
    return "64" in ast.unparse(node) or ast.unparse(node) in ("float", "int", "bool", "object")


def _uses(code: Code, region: Region = "step") -> Iterator[tuple[ast.expr, ast.Name]]:
    """Values of variables, with the later places of the same function that read the variable."""
    for statement in code.nodes(region):
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            continue
        scope = next((one for one in code.up(statement) if isinstance(one, ast.FunctionDef | ast.Module)), code.tree)
        names = {one.id for one in ast.walk(statement.value) if isinstance(one, ast.Name)}
        name, end = statement.targets[0].id, statement.end_lineno or 0
        for use in ast.walk(scope):
            is_read = isinstance(use, ast.Name) and isinstance(use.ctx, ast.Load) and use.id == name
            if isinstance(use, ast.Name) and is_read and use.lineno > end and name not in names:
                yield statement.value, use


def _block(statement: ast.stmt, code: Code) -> list[ast.stmt]:
    """The statements among which a statement stands."""
    owner = code.parents.get(statement)
    blocks = [getattr(owner, name, []) for name in ("body", "orelse")]
    return next((block for block in blocks if isinstance(block, list) and statement in block), [])


def _is_alone(statement: ast.stmt, code: Code) -> bool:
    lines = code.text.splitlines()
    return not lines[statement.lineno - 1][: statement.col_offset].strip()


def loops(before: str, patterns: tuple[str, ...] = PRODUCT) -> Sites:
    """A product whose result `made` is filled by a loop before the statement."""
    return replacing(patterns, "made", before)


PATTERNS: tuple[tuple[str, str, Sites, tuple[str, ...]], ...] = (
    ("float64", "astype left out", replacing("V_.astype(np.float32)", "V_", region="set-up"), ()),
    ("float64", "astype left out in the step", replacing("V_.astype(np.float32)", "V_"), ()),
    ("float64", "dtype left out", without_dtype, ()),
    ("float64", "everything in float64", all_double, ()),
    ("float64", "a rate that is np.float64", replacing("T_ -= R_ * G_", "T_ -= np.float64(R_) * G_"), ()),
    ("float64", "a number of samples that is np.float64", replacing("E_ / len(X_)", "E_ / np.float64(len(X_))"), ()),
    ("float64", "a factor np.sqrt(1.0)", replacing("D_ @ W_.T", "np.sqrt(1.0) * D_ @ W_.T"), ()),
    ("float64", "zeros of a shape", replacing("np.zeros_like(W_)", "np.zeros(W_.shape)", region="set-up"), ()),
    ("recomputation", "evaluated again", again, ("dead-computation",)),
    ("recomputation", "multiplied again", product_again, ("dead-computation", "second-forward")),
    ("recomputation", "written out", written_out, DIES),
    ("recomputation", "kept argument", kept_argument, DIES),
    ("dead-computation", "input delta, test left out", unguarded, ()),
    ("dead-computation", "delta below", input_delta, ()),
    ("dead-computation", "square", unread("squared = V_ * V_"), ()),
    ("dead-computation", "copy", unread("copied = V_.copy()"), ("temporaries",)),
    ("dead-computation", "norm", unread("size = float(np.sqrt(np.sum(V_ * V_)))"), ("work-in-step",)),
    ("dead-computation", "argmax", unread("largest = np.argmax(V_, axis=-1)"), ("work-in-step",)),
    ("dead-computation", "list of copies", unread("seen = [V_.copy() for _ in range(2)]"), ("temporaries",)),
    ("dead-computation", "zeros replaced", replaced_zeros, ("temporaries",)),
    ("temporaries", "update with a new array", replacing("T_ -= E_", "T_ = T_ - E_"), ()),
    ("temporaries", "sum with a new array", replacing("T_ += E_", "T_ = T_ + E_"), ()),
    ("temporaries", "product with a new array", replacing("T_ *= E_", "T_ = T_ * E_"), ()),
    ("temporaries", "quotient with a new array", replacing("T_ /= E_", "T_ = T_ / E_"), ()),
    ("temporaries", "stored through a slice", replacing("T_ -= E_", "T_[:] = T_ - E_"), ()),
    ("temporaries", "without out", without_out, ("slow-primitive",)),
    ("temporaries", "operand copied", replacing(PRODUCT, "A_.copy() @ B_"), ()),
    ("temporaries", "operand made an array", replacing(PRODUCT, "np.array(A_) @ B_"), ()),
    ("temporaries", "result cast to its own dtype", replacing(PRODUCT, "(A_ @ B_).astype(A_.dtype)"), ("float64",)),
    (
        "layout",
        "copy of a transposed operand",
        replacing(GRADIENT, "A_.T.copy() @ D_"),
        ("temporaries",),
    ),
    ("layout", "operand copied to F order", replacing(PRODUCT, "np.array(A_, order='F') @ B_"), ("temporaries",)),
    (
        "layout",
        "result transposed",
        replacing(("V_ = A_ @ B_", "V_ = np.dot(A_, B_)"), "V_ = (B_.T @ A_.T).T"),
        ("temporaries",),
    ),
    ("layout", "sum transposed", replacing(WEIGHTED_SUM, "(B_.T @ A_.T).T + C_"), ("temporaries",)),
    ("layout", "data in F order", of_set_up("np.asfortranarray(V_)"), ()),
    ("layout", "every second column", of_set_up("np.repeat(V_, 2, axis=1)[:, ::2]"), ()),
    (
        "layout",
        "flattened in F order",
        replacing(PRODUCT, "A_ @ B_.flatten('F').reshape(B_.shape, order='F')"),
        ("temporaries",),
    ),
    ("bias-stacking", "hstack", replacing(WEIGHTED_SUM, f"np.hstack([A_, {ONES}]) @ np.vstack([B_, C_])"), ()),
    (
        "bias-stacking",
        "concatenate",
        replacing(WEIGHTED_SUM, f"np.concatenate([A_, {ONES}], axis=1) @ np.vstack([B_, C_])"),
        (),
    ),
    (
        "bias-stacking",
        "column_stack",
        replacing(WEIGHTED_SUM, f"np.column_stack([A_, {ONES}]) @ np.vstack([B_, C_])"),
        (),
    ),
    ("bias-stacking", "c_", replacing(WEIGHTED_SUM, f"np.c_[A_, {ONES}] @ np.vstack([B_, C_])"), ()),
    ("bias-stacking", "append", replacing(WEIGHTED_SUM, f"np.append(A_, {ONES}, axis=1) @ np.vstack([B_, C_])"), ()),
    (
        "bias-stacking",
        "insert",
        replacing(WEIGHTED_SUM, "np.insert(A_, A_.shape[1], 1, axis=1) @ np.vstack([B_, C_])"),
        (),
    ),
    (
        "bias-stacking",
        "pad",
        replacing(WEIGHTED_SUM, "np.pad(A_, ((0, 0), (0, 1)), constant_values=1) @ np.vstack([B_, C_])"),
        (),
    ),
    (
        "bias-stacking",
        "filled array",
        replacing(
            WEIGHTED_SUM,
            "made @ np.vstack([B_, C_])",
            "made = np.ones((len(A_), A_.shape[1] + 1), A_.dtype)\nmade[:, :-1] = A_",
        ),
        (),
    ),
    (
        "bias-stacking",
        "vstack, columns",
        replacing(WEIGHTED_SUM, "np.hstack([A_, C_]) @ np.vstack([B_, np.ones((1, B_.shape[1]), B_.dtype)])"),
        (),
    ),
    (
        "bias-stacking",
        "r_, columns",
        replacing(WEIGHTED_SUM, "np.c_[A_, C_] @ np.r_[B_, np.ones((1, B_.shape[1]), B_.dtype)]"),
        (),
    ),
    ("gather", "taken again", taken_again, ("recomputation",)),
    ("gather", "whole set shuffled", shuffled("X_[np.arange(len(X_))]"), DATA),
    ("gather", "whole set copied", shuffled("np.array(X_)"), DATA),
    ("gather", "whole set scaled", shuffled("(X_ / 1)"), DATA),
    ("gather", "whole set in F order", shuffled("np.asfortranarray(X_)"), (*DATA, "layout")),
    ("gather", "rows in a list", row_by_row("np.array([X_[i] for i in R_])"), ("slow-primitive", "sample-loop")),
    ("gather", "rows stacked", row_by_row("np.stack([X_[i] for i in R_])"), ("slow-primitive", "sample-loop")),
    ("gather", "range as an index", row_by_row("X_[np.array(list(R_))]"), ("slow-primitive",)),
    ("gather", "transposed rows", row_by_row("X_.T[:, R_].T"), ("slow-primitive", "layout")),
    ("slow-primitive", "vectorize tanh", replacing("np.tanh(Z_)", "np.vectorize(np.tanh)(Z_)"), ()),
    (
        "slow-primitive",
        "quotient for tanh",
        replacing("np.tanh(Z_)", "(np.exp(Z_) - np.exp(-Z_)) / (np.exp(Z_) + np.exp(-Z_))"),
        ("recomputation",),
    ),
    ("slow-primitive", "power of e", replacing("np.exp(Z_)", "np.e ** Z_"), ()),
    ("slow-primitive", "np.power of e", replacing("np.exp(Z_)", "np.power(np.e, Z_)"), ()),
    ("slow-primitive", "vectorize exp", replacing("np.exp(Z_)", "np.vectorize(np.exp)(Z_)"), ()),
    (
        "slow-primitive",
        "vectorized sigmoid",
        replacing(SIGMOID, "np.vectorize(lambda v: 1 / (1 + np.exp(-v)))(Z_)"),
        (),
    ),
    (
        "slow-primitive",
        "frompyfunc",
        replacing(SIGMOID, "np.frompyfunc(lambda v: 1 / (1 + np.exp(-v)), 1, 1)(Z_).astype(Z_.dtype)"),
        (),
    ),
    ("slow-primitive", "where for relu", replacing("np.maximum(Z_, 0)", "np.where(Z_ > 0, Z_, 0)"), ()),
    ("slow-primitive", "max of two", replacing("np.maximum(Z_, 0)", "np.max([Z_, np.zeros_like(Z_)], axis=0)"), ()),
    ("slow-primitive", "half of a sum for relu", replacing("np.maximum(Z_, 0)", "(np.abs(Z_) + Z_) / 2"), ()),
    (
        "slow-primitive",
        "vectorized relu",
        replacing("np.maximum(Z_, 0)", "np.vectorize(lambda v: v if v > 0 else v * 0)(Z_)"),
        (),
    ),
    ("slow-primitive", "np.power", replacing(("H_**2", "H_ * H_"), "np.power(H_, 2.0)"), ()),
    ("slow-primitive", "einsum", replacing(PRODUCT, "np.einsum('ij,jk->ik', A_, B_)"), ()),
    ("slow-primitive", "einsum with a path", replacing(PRODUCT, "np.einsum('ij,jk->ik', A_, B_, optimize=True)"), ()),
    (
        "slow-primitive",
        "sum of a broadcast product",
        replacing(PRODUCT, "np.sum(A_[:, :, None] * B_[None], axis=1)"),
        ("temporaries",),
    ),
    ("slow-primitive", "objects", replacing(PRODUCT, "(A_.astype(object) @ B_).astype(A_.dtype)"), ("float64",)),
    (
        "slow-primitive",
        "longdouble",
        replacing(PRODUCT, "(A_.astype(np.longdouble) @ B_).astype(A_.dtype)"),
        ("float64", "temporaries"),
    ),
    ("slow-primitive", "list and back", replacing(PRODUCT, "np.array(A_.tolist(), A_.dtype) @ B_"), ("temporaries",)),
    ("slow-primitive", "einsum of a gradient", replacing(GRADIENT, "np.einsum('ni,nj->ij', A_, D_)"), ()),
    (
        "slow-primitive",
        "broadcast gradient",
        replacing(GRADIENT, "(A_[:, :, None] * D_[:, None, :]).sum(axis=0)"),
        ("temporaries",),
    ),
    (
        "slow-primitive",
        "apply_along_axis",
        replacing(COLUMN_SUM, "np.apply_along_axis(np.sum, 0, D_)"),
        ("neuron-loop",),
    ),
    ("slow-primitive", "sum of Python", replacing(COLUMN_SUM, "sum(D_)"), ("sample-loop",)),
    ("slow-primitive", "subtract.at", replacing("P_[R_, L_] -= 1", "np.subtract.at(P_, (R_, L_), 1)"), ()),
    ("slow-primitive", "where as an index", replacing("M_[C_] = 0", "M_[np.where(C_)] = 0"), ()),
    ("slow-primitive", "mask for a product", replacing("D_ * (A_ > 0)", "np.where(A_ > 0, D_, 0)"), ()),
    (
        "slow-primitive",
        "store through a mask",
        replacing("D_ * (A_ > 0)", "made", "made = D_ * 1\nmade[A_ <= 0] = 0"),
        (),
    ),
    ("second-forward", "called again", second_call, SECOND),
    ("second-forward", "loop over the layers again", second_loop, SECOND),
    ("work-in-step", "evaluated in every step", evaluation, ("dead-computation", "second-forward")),
    ("work-in-step", "print", at_the_end("print('error', float(np.abs(T_).mean()))"), DIES),
    ("work-in-step", "loss that nobody reads", at_the_end("loss_now = float(np.mean(T_ ** 2))"), DIES),
    ("work-in-step", "accuracy that nobody reads", at_the_end("error_now = np.mean(np.abs(T_) > 0.5)"), DIES),
    (
        "sample-loop",
        "rows of a product",
        replacing(PRODUCT, "np.array([np.dot(row, B_) for row in A_])"),
        ("slow-primitive",),
    ),
    (
        "sample-loop",
        "rows of a sum",
        replacing(WEIGHTED_SUM, "np.array([np.dot(row, B_) + C_ for row in A_])"),
        ("slow-primitive",),
    ),
    (
        "sample-loop",
        "loop that fills rows",
        loops("made = np.zeros((len(A_), B_.shape[1]), A_.dtype)\nfor n in range(len(A_)):\n    made[n] = A_[n] @ B_"),
        (),
    ),
    (
        "sample-loop",
        "sum of outer products",
        replacing(GRADIENT, "sum(np.outer(a, d) for a, d in zip(A_, D_))"),
        ("slow-primitive",),
    ),
    (
        "sample-loop",
        "loop that adds outer products",
        loops(
            "made = np.zeros((A_.shape[1], D_.shape[1]), A_.dtype)\n"
            "for n in range(len(A_)):\n    made += np.outer(A_[n], D_[n])",
            GRADIENT,
        ),
        ("slow-primitive",),
    ),
    ("sample-loop", "map", replacing(PRODUCT, "np.array(list(map(lambda row: row @ B_, A_)))"), ("slow-primitive",)),
    (
        "sample-loop",
        "activation row by row",
        replacing("np.tanh(Z_)", "np.array([np.tanh(row) for row in Z_])"),
        ("slow-primitive",),
    ),
    (
        "sample-loop",
        "loop for the sum of rows",
        replacing(COLUMN_SUM, "made", "made = np.zeros(D_.shape[1], D_.dtype)\nfor row in D_:\n    made += row"),
        ("slow-primitive",),
    ),
    (
        "sample-loop",
        "one-hot by a loop",
        replacing(
            "P_[R_, L_] -= 1", "P_ -= made", "made = np.zeros_like(P_)\nfor n, k in enumerate(L_):\n    made[n, k] = 1"
        ),
        ("gather",),
    ),
    (
        "neuron-loop",
        "columns of a product",
        replacing(PRODUCT, "np.stack([A_ @ B_[:, j] for j in range(B_.shape[1])], axis=1)"),
        ("slow-primitive", "layout"),
    ),
    (
        "neuron-loop",
        "neurons of a sum",
        replacing(WEIGHTED_SUM, "np.array([A_ @ w + c for w, c in zip(B_.T, np.ravel(C_))]).T"),
        ("slow-primitive", "layout"),
    ),
    (
        "neuron-loop",
        "loop that fills columns",
        loops(
            "made = np.zeros((len(A_), B_.shape[1]), A_.dtype)\n"
            "for j in range(B_.shape[1]):\n    made[:, j] = A_ @ B_[:, j]"
        ),
        ("layout",),
    ),
    (
        "neuron-loop",
        "sums of the columns",
        replacing(COLUMN_SUM, "np.array([column.sum() for column in D_.T])"),
        ("slow-primitive", "layout"),
    ),
    (
        "neuron-loop",
        "rows of the weights",
        replacing("W_ -= R_ * G_", "for j in range(len(W_)):\n    W_[j] -= R_ * G_[j]"),
        (),
    ),
    (
        "neuron-loop",
        "loop over the entries",
        replacing("T_ -= R_ * G_", "for j, g in np.ndenumerate(G_):\n    T_[j] -= R_ * g"),
        (),
    ),
)

OTHER_NAMES = {
    "sample-loop": ("neuron-loop", "slow-primitive"),
    "neuron-loop": ("sample-loop", "slow-primitive"),
    "float64": ("slow-primitive",),
}
"""Categories that name every flaw of a category as well: which axis has the samples differs from program to program,
and so do the place and the name of a conversion to float64."""

FORMS = tuple(
    Form(category, name, sites, (*also, *OTHER_NAMES.get(category, ())), anywhere=category in ("float64", "layout"))
    for category, name, sites, also in PATTERNS
)
"""All forms. What is wrong with a dtype or a memory order is often found where the array is used."""
