"""Taps for a model that has none of its own: forward hooks on modules that one names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from espnet_like.augment.base import Plan


class Taps:
    """Lets plans act inside any model. Layer 0 is the model's first argument, k the k-th name.

        taps = Taps(model, "layer1", "layer2")  # once; before torch.compile and the like
        plan = augmentation.draw(features, targets)
        with taps(plan):  # one forward pass
            logits = model(features)
        loss = criterion(logits, plan.targets)

    Outside of the context the hooks change nothing; `remove` takes them away. Modules named must
    lie outside of activation checkpointing, which runs them again when the plan is gone.

    Args:
        model: any.
        names: modules as in `model.named_modules()`, whose output is one (B, C, F, T) map.

    Raises:
        ValueError: a module that is not there.
    """

    def __init__(self, model: nn.Module, *names: str) -> None:
        modules = [_find(model, name) for name in names]
        self.names = ("the model's first argument", *(f"the output of {name}" for name in names))
        self._plan: Plan | None = None
        self._reached: set[int] = set()
        # A compiled model must ask for the plan of each batch.
        self._tap = torch.compiler.disable(self._apply)
        self._hooks = [model.register_forward_pre_hook(self._on_input, with_kwargs=True)]
        for k, module in enumerate(modules, start=1):
            self._hooks.append(module.register_forward_hook(self._on_output(k)))

    @contextmanager
    def __call__(self, plan: Plan) -> Iterator[None]:
        """In this context one forward pass undergoes `plan`.

        Raises:
            ValueError: the plan acts at a layer that was not named, or on what is no map.
            RuntimeError: a tap is reached twice, so that the same draws would act twice.
        """
        last = max((op.layer for op in plan.ops), default=0)
        if last >= len(self.names):
            raise ValueError(
                f"the plan acts at layer {last}, but {len(self.names) - 1} modules are named: "
                "name more, or give the augmentation fewer layers"
            )
        self._plan = plan
        self._reached.clear()
        try:
            yield
        finally:
            self._plan = None

    def remove(self) -> None:
        """Take the hooks off the model."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _on_input(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (self._tap(0, args[0]), *args[1:]), kwargs
        first, *rest = kwargs.items()
        return args, {first[0]: self._tap(0, first[1]), **dict(rest)}

    def _on_output(self, k: int) -> Callable[[nn.Module, Any, Any], Any]:
        return lambda module, args, output: self._tap(k, output)

    def _apply(self, k: int, x: Any) -> Any:
        if self._plan is None:
            return x
        if k in self._reached:
            raise RuntimeError(
                f"{self.names[k]} came twice in one context: draw a plan for each forward pass, "
                "and name no module that the model uses more than once"
            )
        self._reached.add(k)
        if k == 0 and all(op.layer for op in self._plan.ops):
            return x  # which may be a waveform
        if not isinstance(x, Tensor) or x.dim() != 4:
            found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"{self.names[k]} is {found}, no (B, C, F, T) map: name another one")
        return self._plan(k, x)


def _find(model: nn.Module, name: str) -> nn.Module:
    modules = {key: module for key, module in model.named_modules(remove_duplicate=False) if key}
    if name not in modules:
        near = get_close_matches(name, modules, 3, 0.5)
        near = near or [child for child, _ in model.named_children()]
        raise ValueError(f"the model has no module {name!r}; it has {', '.join(near)}")
    return modules[name]
