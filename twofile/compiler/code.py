"""Object code becomes addresses and functions."""

import ctypes
import time

from ..errors import ModelError
from ..machines.host import host
from .compile import compile_kernel
from .kept import cache_folder, read_cached, write_cached


class Code:
    """Machine code of kernels by name -> address. Loads it from the cache (folder), compiles what
    is missing, keeps it there. In the words of the host's machine, or of another that it can be."""

    def __init__(self, kernels, notice, machine=None):
        binding = _llvm()
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        usual, cpu, features = host()
        machine = machine or usual
        target = binding.Target.from_default_triple()
        target = target.create_target_machine(cpu=cpu, features=features, jit=True)
        self.engine = binding.create_mcjit_compiler(binding.parse_assembly(""), target)
        began = time.perf_counter()
        self.folder = folder = cache_folder((machine.name, cpu, features), notice)
        kernels = list(kernels)
        found = {kernel.name: read_cached(folder, kernel.name, notice) for kernel in kernels}
        missing = [kernel for kernel in kernels if found[kernel.name] is None]
        if missing:
            notice(f"compiling {len(missing)} kernels for {cpu} ({machine.name}), once ...")
        for kernel in missing:
            found[kernel.name] = compile_kernel(kernel, machine)
            write_cached(folder, kernel.name, found[kernel.name], notice)
        self.compile_seconds = time.perf_counter() - began if missing else 0.0
        if missing:
            kept = f"kept in {folder}" if folder else "not kept"
            notice(f"compiled in {self.compile_seconds:.1f} s, {kept}")
        for _, code in found.values():
            self.engine.add_object_file(binding.ObjectFileRef.from_data(code))
        self.engine.finalize_object()
        self.address = {
            name: self.engine.get_function_address(symbol) for name, (symbol, _) in found.items()
        }

    def function(self, name):
        """A kernel as a Python function of four ints; it runs without the interpreter lock."""
        return CompiledKernel(self.engine, self.address[name])


class CompiledKernel:
    """What calls a kernel; the code lives as long as its callers."""

    def __init__(self, engine, address):
        self.engine = engine
        i64, pointer = ctypes.c_int64, ctypes.c_void_p
        kind = ctypes.CFUNCTYPE(ctypes.c_int32, pointer, pointer, i64, i64, i64, i64)
        self.compiled = kind(address)

    def __call__(self, a, b, c, d, byref=ctypes.byref, int64=ctypes.c_int64):
        result = int64()
        self.compiled(byref(result), None, a, b, c, d)
        return result.value


def _llvm():
    """llvmlite.binding. Raises ModelError if there is none, or one too old."""
    try:
        from llvmlite import binding
    except ImportError as e:
        raise ModelError(
            f"numba cannot be imported ({e}); expected it beside numpy; pip install numba"
        ) from None
    if binding.llvm_version_info < (20,):  # older ones stop the process at what they cannot compile
        found = ".".join(map(str, binding.llvm_version_info))
        raise ModelError(
            f"llvmlite has LLVM {found}; expected 20 or newer, as with numba 0.62; "
            "pip install -U numba"
        )
    return binding
