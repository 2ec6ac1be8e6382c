"""Adam for a layer whose gradient is passed to it rather than kept in ``param.grad``."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from rllib_lpdm.local_learning import torch_internals


class LayerAdam(torch.optim.Adam):
    """``torch.optim.Adam`` that can also step from gradients passed to it.

    A local update makes one small optimizer step a layer. ``Adam.step()`` spends most of that time
    on bookkeeping around the fused kernel, and :meth:`apply` calls the kernel at once. State and
    results are the same as of ``torch.optim.Adam(fused=True)``, and checkpoints can be exchanged.

    Args:
        params: the parameters, in the order in which gradients will be passed.
        lr: learning rate.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(params, lr=lr, fused=True)
        self._collect_state()

    def apply(self, gradients: list[Tensor], divisor: float | None = None) -> None:
        """Makes one step from the given gradients; call it under ``torch.no_grad()``.

        Args:
            gradients: one per parameter, in the order of ``params``.
            divisor: divides the gradients, within the kernel and maybe in place; None for 1.
        """
        group = self.param_groups[0]
        beta1, beta2 = group["betas"]
        self._counts += 1
        torch_internals.fused_adam(
            group["params"],
            gradients,
            self._means,
            self._squares,
            [],
            self._steps,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
            grad_scale=None if divisor is None else self._divisor.fill_(divisor),
        )

    def clipped(self, gradients: list[Tensor], max_norm: float | None = None) -> tuple[float, bool]:
        """Makes one step, with the gradients scaled down to a norm over all of them.

        Call it under ``torch.no_grad()``. There is no step where the gradient is not finite, or
        exactly zero: Adam's momentum must not move parameters that have nothing to learn.

        Args:
            gradients: one per parameter; may be scaled in place.
            max_norm: largest Euclidean norm over all gradients; None for no limit.

        Returns:
            The norm before clipping, and whether the step was left out as not finite.
        """
        norm = math.hypot(*(torch.linalg.vector_norm(g).item() for g in gradients))
        if not math.isfinite(norm):
            return norm, True
        if norm > 0.0:
            excess = 1.0 if max_norm is None else norm / max_norm
            self.apply(gradients, divisor=excess if excess > 1.0 else None)
        return norm, False

    add_param_group = torch_internals.add_param_group
    state_dict = torch_internals.state_dict
    load_state_dict = torch_internals.load_state_dict

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores a copied, unpickled or loaded state, with which no step may have been made."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._collect_state()

    def _collect_state(self) -> None:
        if len(self.param_groups) != 1:
            raise ValueError("LayerAdam steps one group of parameters; make one a group")
        states = [self._state_of(parameter) for parameter in self.param_groups[0]["params"]]
        self._counts = torch.stack([state["step"] for state in states])
        self._steps = list(self._counts.unbind())  # views: one addition counts for all of them
        for state, step in zip(states, self._steps, strict=True):
            state["step"] = step
        self._divisor = torch.ones_like(self._steps[0])
        self._means = [state["exp_avg"] for state in states]
        self._squares = [state["exp_avg_sq"] for state in states]

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter, requires_grad=False)
            state["exp_avg_sq"] = torch.zeros_like(parameter, requires_grad=False)
        state["step"] = state["step"].to(parameter.device)
        return state
