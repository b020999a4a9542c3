"""What is measured: the cases, and who takes part in each."""

from __future__ import annotations

from dataclasses import dataclass

NTM_CONTENDERS = ("fused", "eager", "compile", "jax")
STACK_CONTENDERS = ("fused", "eager", "torch-nn")
CONTENDERS = tuple(dict.fromkeys(NTM_CONTENDERS + STACK_CONTENDERS))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model on copy with `length` vectors, `batch` sequences an update."""

    model: str
    length: int
    batch: int
    contenders: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.model}-L{self.length}-B{self.batch}"


CASES = {
    case.name: case
    for case in (
        *(
            Case(model=model, length=length, batch=batch, contenders=NTM_CONTENDERS)
            for model in ("ntm", "ntm-ff")
            for length in (10, 20)
            for batch in (1, 16, 64)
        ),
        *(
            Case(model=model, length=10, batch=batch, contenders=STACK_CONTENDERS)
            for model in ("lstm", "gru")
            for batch in (1, 16)
        ),
    )
}
QUICK = ("ntm-L10-B1", "ntm-L10-B16", "lstm-L10-B1")
