"""Whether the server has what its labs are guaranteed: with `auto`, how much it has is only known on the server."""

from __future__ import annotations

from ...domain.lab_capacity import problems
from ...domain.sizes import describe_bytes, describe_cpus
from ...runtime.base import HostFacts
from ...services.lab_capacity import LabCapacityService
from ...services.offers import capacity_of
from ...settings import Settings
from .findings import Finding, Level


async def labs(subject: str, settings: Settings, labs: LabCapacityService, host: HostFacts) -> list[Finding]:
    """What labs are guaranteed, compared with what this server may hand out."""
    by_lab = await labs.labs()
    if not by_lab:
        return [
            Finding(Level.OK, subject, "No lab has a capacity of its own: they share the server as the queue does.")
        ]
    found = problems(by_lab, capacity_of(settings, host))
    if "" in found:
        text = f"Labs are guaranteed more than there is, so launches of others may wait for ever: {found.pop('')}."
        remedy = "Guarantee less (“launchpad limits lab”, or the console under Limits), or raise capacity.memory."
        return [Finding(Level.WARN, subject, text, remedy)]
    memory_bytes = sum(one.guaranteed_memory_bytes for one in by_lab.values())
    cpus = sum(one.guaranteed_cpus for one in by_lab.values())
    number = f"{len(by_lab)} lab{'' if len(by_lab) == 1 else 's'}"
    text = f"{number}; {describe_bytes(memory_bytes)} and {describe_cpus(cpus)} guaranteed in all."
    return [Finding(Level.OK, subject, text)]
