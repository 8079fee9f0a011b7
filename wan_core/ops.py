"""The only door to ``kernels``: the operations of trunk and VAE, and which form of each runs.

On a CUDA device where Triton's kernels were seen to run (:func:`ready`) the forms of ``kernels.fused`` run, on a CPU
those of ``kernels.cpu``, unless a compiler fuses there; elsewhere, and where gradients are wanted, those of
``kernels.reference``. :func:`prefer` asks for one.
"""

from __future__ import annotations

import importlib.util
import logging
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import cpu, reference
from wan_core.specs import ATTENTION

X86 = platform.machine().lower() in ("x86_64", "amd64")
HAS_TRITON = importlib.util.find_spec("triton") is not None
log = logging.getLogger(__name__)
_preferred: list[str] = []
_attending: dict[str, tuple[str, Callable[..., Tensor]]] = {}  # by kind of device
_tried: set[torch.device] = set()
_runs: dict[int, bool] = {}  # by CUDA device: whether Triton's kernels were seen to run there


@contextmanager
def prefer(form: Literal["reference", "cpu", "fused"]) -> Iterator[None]:
    """Within this context all devices take one form; for tests and measurements."""
    _preferred.append(form)
    try:
        yield
    finally:
        _preferred.pop()


def ready(device: torch.device) -> None:
    """Find out, once, whether Triton's kernels run on a device; they need a C compiler and no old GPU.

    It becomes this thread's device, as Triton launches kernels on that.
    """
    if device.type != "cuda" or torch.compiler.is_compiling():
        return
    number = torch.cuda.current_device() if device.index is None else device.index
    if number != torch.cuda.current_device():
        torch.cuda.set_device(number)
    if number in _runs or not HAS_TRITON:
        return
    _runs[number] = False
    from kernels import fused

    try:
        every_kernel(fused, torch.device("cuda", number))
        torch.cuda.synchronize(number)
    except Exception as error:
        log.warning("Triton kernels do not run here, the plain forms do: %s", error)
    else:
        _runs[number] = True


def every_kernel(form: Any, device: torch.device) -> None:
    """Run each operation of a form once, at the width of a small Wan model.

    Args:
        form: a module of operations.
        device: where.
    """
    x = torch.zeros(1, 2, 1536, dtype=torch.bfloat16, device=device)
    row, weight, angles = (torch.zeros(shape, device=device) for shape in ((1, 1, 1536), (1536,), (2, 64)))
    form.modulate(x, row, row, (2,), 1e-6)
    form.layer_norm(x, weight, weight, 1e-6)
    form.gate_residual(x, x, row, (2,))
    for gate in (row, None):
        form.residual_modulate(x, x, gate, row, row, (2,), 1e-6)
    for rope in ((angles, angles), None):
        form.norm_rope(x, weight.to(x.dtype), 1e-6, 12, rope)
    clip = x[..., :96].view(1, 1, 1, 2, 96)
    form.norm_silu(clip, weight[:96], clip)


def _form(x: Tensor, *others: Tensor | None) -> Any:
    """The module whose operations take this tensor and those that go in with it."""
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, *others)):
        return reference
    form = "fused" if x.is_cuda and _runs.get(x.device.index) else x.device.type
    form = _preferred[-1] if _preferred else form
    if form == "fused" and HAS_TRITON:
        from kernels import fused  # imports triton, which nothing else needs

        return fused
    return cpu if form == "cpu" and not torch.compiler.is_compiling() else reference


def lean(device: torch.device) -> bool:
    """Whether the forms that run on a device do nearly without float32 copies of whole tensors."""
    return device.type == "cpu" or (device.type == "cuda" and any(_runs.values()))


def modulate(x: Tensor, shift: Tensor, scale: Tensor, lengths: tuple[int, ...], eps: float) -> Tensor:
    """See :func:`kernels.reference.modulate`."""
    return _form(x, shift, scale).modulate(x, shift, scale, lengths, eps)


def gate_residual(x: Tensor, branch: Tensor, gate: Tensor, lengths: tuple[int, ...]) -> Tensor:
    """See :func:`kernels.reference.gate_residual`."""
    return _form(x, branch, gate).gate_residual(x, branch, gate, lengths)


def residual_modulate(
    x: Tensor, branch: Tensor, gate: Tensor | None, shift: Tensor, scale: Tensor, lengths: tuple[int, ...], eps: float
) -> tuple[Tensor, Tensor]:
    """See :func:`kernels.reference.residual_modulate`."""
    return _form(x, branch, gate, shift, scale).residual_modulate(x, branch, gate, shift, scale, lengths, eps)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """See :func:`kernels.reference.layer_norm`."""
    return _form(x, weight, bias).layer_norm(x, weight, bias, eps)


def norm_rope(x: Tensor, weight: Tensor, eps: float, heads: int, rope: tuple[Tensor, Tensor] | None) -> Tensor:
    """See :func:`kernels.reference.norm_rope`."""
    return _form(x, weight).norm_rope(x, weight, eps, heads, rope)


def norm_silu(x: Tensor, weight: Tensor, before: Tensor | None = None) -> Tensor:
    """See :func:`kernels.reference.norm_silu`."""
    return _form(x, weight).norm_silu(x, weight, before)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """A convolution whose channels come last, in and out.

    Args:
        x: (N, H, W, C) or (N, T, H, W, C).
        weight: as torch has it: outputs, inputs, then the kernel.
        bias: one per output.
        stride: one number per axis of the kernel.
        padding: likewise; zeros on both sides.
    """
    first = x.movedim(-1, 1)
    plain_float = X86 and x.device.type == "cpu" and x.dtype == torch.float32
    if plain_float and not torch.compiler.is_compiling() and torch.backends.mkldnn.is_available():
        # torch's own choice for few positions is a plain product of copies, two to three times slower
        ones = [1] * len(stride)
        return torch.mkldnn_convolution(first, weight, bias, padding, stride, ones, 1).movedim(1, -1)
    plain = F.conv2d if len(stride) == 2 else F.conv3d
    return plain(first, weight, bias, tuple(stride), tuple(padding)).movedim(1, -1)


#: Scores per head up to which training on a CPU takes the plain form: flash attention's backward
#: pass is several times slower there than two batched matrix products.
TRAINED_PLAIN = 2**16


class Slicing(NamedTuple):
    """Byte budgets for the trunk's two large temporaries; None leaves the choice to torch.

    Attributes:
        attention: bytes of attention scores in flight.
        feed_forward: bytes of the feed-forward's hidden layer in flight.
    """

    attention: int | None = None
    feed_forward: int | None = None


HALVES = (torch.bfloat16, torch.float16)


def attend_by(name: str | None, device: str = "cuda") -> None:
    """Take attention by another maker's library from now on, in the whole process.

    It holds for numbers of 16 bits where no score carries a bias; the rest stays with torch.

    Args:
        name: which of :data:`wan_core.specs.ATTENTION`; None is torch's own choice.
        device: the kind of device that it holds for.

    Raises:
        ValueError: there is no such one, or it is not installed.
    """
    if name is None:
        _attending.clear()
        return
    if name not in ATTENTION:
        raise ValueError(f"{name}: attention is by {', '.join(ATTENTION)}, or torch's own choice")
    from diffusers.models import attention_dispatch  # which knows every library's call

    backend = attention_dispatch.AttentionBackendName(ATTENTION[name])
    try:
        attention_dispatch._check_attention_backend_requirements(backend)
    except RuntimeError as error:
        raise ValueError(f"{name}: {error}") from error
    _attending.clear()
    _tried.clear()
    _attending[device] = name, partial(attention_dispatch.dispatch_attention_fn, backend=backend)


def attended_by(device: torch.device, dtype: torch.dtype = torch.bfloat16) -> str:
    """What :func:`attend_by` was told for a device, if it holds for a type; "" where torch chooses."""
    return _attending.get(device.type, ("",))[0] if dtype in HALVES else ""


def try_attention(device: torch.device, dtype: torch.dtype, head_dim: int) -> None:
    """Take the library that was asked for once; where it does not run, torch chooses, and the log says so."""
    if not attended_by(device, dtype) or device in _tried:
        return
    _tried.add(device)
    x = torch.zeros(1, 128, 2, head_dim, device=device, dtype=dtype)
    try:
        attention(x, x, x).sum().item()  # waits for it
    except Exception as error:
        name, _ = _attending.pop(device.type)
        log.warning("attention by %s does not run here, torch's own does: %s", name, error)


def attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None, *, budget: int | None = None
) -> Tensor:
    """Attention by torch's own kernels, or in exact slices where the scores exceed a budget.

    Args:
        query: (B, L, H, D).
        key: (B, S, H, D).
        value: (B, S, H, D).
        bias: (B, 1, 1, S), added to every row of scores, or None.
        budget: bytes that scores in flight may take, or None.

    Returns:
        (B, L, H, D).
    """
    b, rows, heads, _ = query.shape
    if budget is not None and 4 * b * heads * rows * key.shape[1] > budget:
        return reference.sliced_attention(query, key, value, budget, bias)
    if query.requires_grad and query.device.type == "cpu" and rows * key.shape[1] <= TRAINED_PLAIN:
        return reference.attention(query, key, value, bias)
    if bias is None and query.dtype in HALVES and (by := _attending.get(query.device.type)):
        return by[1](query, key, value)
    # 4-D with a unit last stride: the layout for which every torch backend bounds its own memory
    q, k, v = (t.transpose(1, 2) for t in (query, key, value))
    mask = None if bias is None else bias.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def feed_forward(x: Tensor, up: torch.nn.Module, down: torch.nn.Module, budget: int | None = None) -> Tensor:
    """Linear, GELU (tanh), linear; in token slices where the hidden layer exceeds a budget.

    Args:
        x: (B, L, C).
        up: maps C to the hidden width.
        down: maps the hidden width to C.
        budget: bytes that the hidden layer in flight may take, or None.

    Returns:
        (B, L, C).
    """
    if budget is not None:
        hidden = getattr(up, "out_features", 4 * x.shape[-1])
        tokens = max(1, budget // (x.shape[0] * hidden * x.element_size()))
        if tokens < x.shape[1]:
            out = torch.empty_like(x)
            for start in range(0, x.shape[1], tokens):
                some = slice(start, start + tokens)
                out[:, some] = down(_gelu(up(x[:, some])))
            return out
    return down(_gelu(up(x)))


def _gelu(hidden: Tensor) -> Tensor:
    """GELU (tanh) in place, but where a gradient needs what was there: the hidden layer is the largest of all."""
    if torch.is_grad_enabled() and hidden.requires_grad:
        return F.gelu(hidden, approximate="tanh")
    return torch.ops.aten.gelu_(hidden, approximate="tanh")
