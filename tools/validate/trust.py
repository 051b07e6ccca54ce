"""Graphs are programs: those that would touch files, other machines or Python are not run unasked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from weights import Refused

FORBIDDEN = re.compile(
    "File|PyFunc|Save|Restore|Checkpoint|Dataset|Reader|Record|Summary|Iterator|Queue|Remote|Rpc|Recv|Send|Collective"
    "|Nccl|Print|Dump|Debug|LoadAndRemap|LoadTPU|LMDB|Sql|HostCompute|CustomCall|XlaCallModule|Distributed|Sleep"
    "|ImportEvent|TPUExecute|TPUCompile|Infeed|Outfeed|GetSession|DeleteSession|MapStage|Stage$|Unstage"
    "|ImmutableConst|VocabRemapping|FixedUnigramCandidateSampler|^Gcs|^Abort$"
)
"""Types of operations that reach beyond the computation: files, sockets, Python, custom code, other sessions."""

SAVERS = frozenset({"SaveV2", "RestoreV2", "Save", "Restore", "ShardedFilename", "MergeV2Checkpoints"})
"""What ``tf.train.Saver`` adds to every graph that is trained."""


def check_trust(definition: Any, saver: str = "") -> None:
    """Raises Refused where a GraphDef holds operations that reach beyond the computation, in its nodes or in its
    functions. Those of a saver, in the name scope ``saver``, are passed over as long as nothing else reads them."""
    scope = saver + "/" if saver else ""
    found: dict[str, str] = {}
    for node in definition.node:
        if scope and node.name.startswith(scope):
            if node.op in SAVERS or not FORBIDDEN.search(node.op):
                continue
        elif scope and any(_name(one).startswith(scope) for one in node.input):
            found.setdefault("an operation that reads the saver's", node.name)
        if FORBIDDEN.search(node.op):
            found.setdefault(node.op, node.name)
    for function in definition.library.function:
        for node in function.node_def:
            if FORBIDDEN.search(node.op):
                found.setdefault(node.op, f"{function.signature.name}/{node.name}")
    if found:
        raise Refused(
            f"holds operations that touch files, other machines or Python: {_listed(found.items())}; "
            "say --trust to run it all the same"
        )


def _name(reference: str) -> str:
    return reference.lstrip("^").partition(":")[0]


def _listed(found: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{kind} ('{name}')" for kind, name in list(found)[:4])
