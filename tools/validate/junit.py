"""A report as JUnit's XML, which CI systems show: one case a layer, one for each output's predictions, one for all."""

from __future__ import annotations

import xml.etree.ElementTree as xml

from tools.validate.report import AGREES, DIFFERS, LayerResult, Report


def junit(report: Report) -> bytes:
    """Returns the XML. A layer that differs, or was not compared, is a failure; so is a verdict that is no pass."""
    cases = [_case(f"{one.layer}/{one.top}" if one.top != one.layer else one.layer, _wrong(one))
             for one in report.layers]  # fmt: skip
    verdict = report.verdict
    said = (
        "" if verdict.answer == AGREES else "\n".join([f"{verdict.answer} {verdict.first}".strip(), *verdict.reasons])
    )
    cases.append(_case("verdict", said, is_error=verdict.answer not in (AGREES, DIFFERS)))
    failures = sum(one.find("failure") is not None for one in cases)
    errors = sum(one.find("error") is not None for one in cases)
    suite = xml.Element(
        "testsuite",
        name=f"caffeport validate {report.port['file']}",
        tests=str(len(cases)),
        failures=str(failures),
        errors=str(errors),
        time=f"{report.seconds:.3f}",
    )
    suite.extend(cases)
    whole = xml.Element("testsuites")
    whole.append(suite)
    return xml.tostring(whole, encoding="utf-8", xml_declaration=True)


def _case(name: str, wrong: str, is_error: bool = False) -> xml.Element:
    case = xml.Element("testcase", classname="caffeport", name=_allowed(name))
    if wrong:
        found = xml.SubElement(case, "error" if is_error else "failure", message=_allowed(wrong.split("\n")[0]))
        found.text = _allowed(wrong)
    return case


def _wrong(one: LayerResult) -> str:
    if one.passes:
        return ""
    if one.computed is None:
        return f"{one}: not compared; {'it has no tensor' if not one.tensor else one.why_not}"
    if one.computed.problem:
        return f"{one}: {one.computed.problem}"
    alone = f", {one.isolated.relative:.2g} in isolation" if one.isolated else ""
    return (
        f"{one}: differs by {one.computed.relative:.2g} of its largest magnitude{alone}; allowed is {one.allowed:.2g}"
    )


def _allowed(text: str) -> str:
    """Returns text without the characters that XML forbids."""
    return "".join(c if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff") else "?" for c in text)
