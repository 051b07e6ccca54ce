"""StableHLO as portable artifacts: made of what TensorFlow lowers, and proved before it is compiled."""

from __future__ import annotations

from typing import Any

from graphs.tensorflow1 import quiet_stderr
from weights import Refused

PRODUCTS = frozenset({"stablehlo.convolution", "stablehlo.dot_general", "stablehlo.dot"})
"""Operations whose factors a GPU may round to TF32 unless they ask for more."""

EXACT = "#stablehlo<precision HIGHEST>"
"""How a product asks for all of float32's fraction, once for each factor."""

ROUNDED = "#stablehlo<precision DEFAULT>"
"""How it leaves the choice to the device."""

DIALECTS = frozenset({"builtin", "func", "stablehlo"})

REACHING_OUT = frozenset({"custom_call", "infeed", "outfeed", "send", "recv"})
"""Operations that hand over to code or data from elsewhere: a program from a file may hold none."""

CUSTOM_CALLS = frozenset({"TopK"})
"""Custom calls that XLA itself carries out."""

OLDEST, TESTED = (0, 6, 2), "0.6.2 to 0.10.2"
"""Versions of JAX that this was run with; older ones have another interface."""

REMEDY = "pip install 'jax==0.10.2'"


def proved(code: bytes, tf32: bool = False) -> bytes | str:
    """Returns what is to be compiled of a portable artifact, once it is known what it can do. With ``tf32`` its
    products may be rounded, else they take all of float32.

    Raises Refused where it is no program, holds what could reach out of it, or products that may always be rounded.
    """
    ir, stablehlo = _dialects()
    context = ir.Context()
    stablehlo.register_dialect(context)
    problems = []

    def check(operation: Any) -> Any:
        dialect, _, name = str(operation.name).partition(".")
        target = _attribute(operation, "call_target_name").strip('"')
        if dialect not in DIALECTS or (name in REACHING_OUT and target not in CUSTOM_CALLS):
            problems.append(f"holds an operation that reaches out of it: {target or operation.name}")
        if operation.name in PRODUCTS and _attribute(operation, "precision_config").count(EXACT) != 2:
            problems.append("holds products that may be rounded to TF32; save it again with this version")
        return ir.WalkResult.ADVANCE

    with quiet_stderr(), context:
        try:
            module = stablehlo.deserialize_portable_artifact(context, code)
            module.operation.walk(check)
            text = module.operation.get_asm()
        except Exception as error:  # MLIR's own error type, ValueError
            import jax

            why = " ".join(str(error).split())[:200]
            raise Refused(f"is no program in StableHLO that JAX {jax.__version__} reads: {why}") from error
    if problems:
        raise Refused(problems[0])
    return text.replace(EXACT, ROUNDED) if tf32 else code


def portable(hlo: bytes) -> bytes:
    """Returns a serialized HloModuleProto as a portable artifact of the oldest version that can hold it, its names
    taken off: equal computations give equal bytes. Raises Refused where this JAX can't, or where a shape is not fixed.
    """
    ir, stablehlo = _dialects()
    try:
        from jaxlib import _jax

        made = _jax.mlir.hlo_to_stablehlo(hlo)
    except (ImportError, AttributeError) as error:
        import jax

        raise Refused(f"JAX {jax.__version__} can't take over TensorFlow's programs: {REMEDY}") from error
    except RuntimeError as error:  # XLA's
        raise Refused(f"has no form in StableHLO: {' '.join(str(error).split())[:200]}") from error
    context = ir.Context()
    stablehlo.register_dialect(context)
    with context:
        module = stablehlo.deserialize_portable_artifact(context, _artifact(stablehlo, made))
        module.operation.attributes["sym_name"] = ir.StringAttr.get("program")
        if any("?" in _attribute(operation, "function_type") for operation in module.body):
            raise Refused("its results have shapes that depend on the values; run it with --engine tensorflow")
        return _artifact(stablehlo, module.operation.get_asm(enable_debug_info=False))


def _artifact(stablehlo: Any, module: str | bytes) -> bytes:
    try:
        return stablehlo.serialize_portable_artifact_str(module, stablehlo.get_minimum_version())
    except (ValueError, RuntimeError):  # holds something newer
        return stablehlo.serialize_portable_artifact_str(module, stablehlo.get_current_version())


def _attribute(operation: Any, name: str) -> str:
    return str(operation.attributes[name]) if name in operation.attributes else ""


def _dialects() -> tuple[Any, Any]:
    try:
        from jax.extend.mlir import ir
        from jax.extend.mlir.dialects import stablehlo
    except ImportError as error:
        import jax

        raise Refused(f"JAX {jax.__version__} has no jax.extend.mlir, as {TESTED} have: {REMEDY}") from error
    return ir, stablehlo
