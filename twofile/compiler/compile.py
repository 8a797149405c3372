"""A kernel becomes object code, by numba."""

import contextvars
import functools

from ..machines.host import host
from ..words.word import Word
from .intrinsic import intrinsic
from .kernel import Inline

COMPILED_FOR = contextvars.ContextVar("COMPILED_FOR")  # the one that a kernel is being compiled for


@functools.cache
def teach_numba():
    """Import numba and tell it what a Word and an Inline are: not the object that it finds, but
    what that is on the machine compiled for. Once, and only if something must be compiled."""
    import numba
    from numba.core import registry
    from numba.extending import typeof_impl

    _, numba.config.CPU_NAME, numba.config.CPU_FEATURES = host()
    numba.config.DISABLE_JIT = 0  # the words are instructions: there is no Python to run instead
    context = registry.cpu_target.typing_context

    def stands_for(meaning):
        def kind_of(thing, _):
            compiled = meaning(thing, COMPILED_FOR.get())
            context.refresh()  # an intrinsic is known from the next refresh on
            return context.resolve_value_type(compiled)

        return kind_of

    typeof_impl.register(Word)(stands_for(intrinsic))
    typeof_impl.register(Inline)(stands_for(_inlined))


@functools.cache
def _inlined(inline, machine):
    import numba

    return numba.njit(error_model="numpy", forceinline=True)(inline.function)


def compile_kernel(kernel, machine):
    """-> (symbol, object code) of a kernel, in the words of that machine, for the cpu that host()
    tells. Takes numba about a second."""
    teach_numba()
    import numba

    signature = numba.int64(*[numba.int64] * 4)
    jit = numba.njit(signature, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
    token = COMPILED_FOR.set(machine)
    try:
        compiled = jit(kernel.make(machine)).overloads[signature.args]
    finally:
        COMPILED_FOR.reset(token)
    outside = {f.name for f in compiled.library._final_module.functions if f.is_declaration}
    outside = {f for f in outside if not f.startswith("llvm.")} - {"sched_yield", "SwitchToThread"}
    if outside:
        raise RuntimeError(f"kernel {kernel.name} calls {outside}, which stored code cannot")
    return compiled.fndesc.llvm_func_name, compiled.library._get_compiled_object()
