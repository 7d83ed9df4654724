"""Which answer an explanation concludes (apart: the exam builder and the filter `quality` ask).

Plain conclusions count: `故选：C`, `所以答案是C`, `the correct answer is C`, the letter in a formula or not. Neither
`故选项C错误` nor `C正确` concludes anything.
"""

import re

_LATEX = re.compile(r"\$|\\(?:text|mathrm|mathbf|textbf|rm|bf)(?![a-z])|[{}()（）【】\[\]\\\s]")
_CHINESE = re.compile(
    r"(?:故|所以|因此)[,，]?(?:本题|此题)?(?:的?正确)?(?:(?:答案|选项)?应?该?选(?:择|答案|择答案)?|(?:答案|选项)应?(?:为|是))[:：]?"
    r"([A-Z](?:[、,，和]?[A-Z])+(?![A-Za-z\u4e00-\u9fff=<>+\-^_])|[A-Z](?![A-Za-z项选、或和与=<>+\-^_]))"
)
_ENGLISH = re.compile(
    r"(?i:\b(?:correct|right) (?:answer|option|choice) is"
    r"|\b(?:therefore|thus|hence|so),? (?:the )?(?:answer|option|choice) is):?\s*(?:option\s*)?"
    r"\(?([A-Z])\)?(?=\s*(?:[.,;]|\Z|\n))"
)


def contradicts(explanation: str, key: str) -> bool:
    """Return whether an explanation concludes answers, and one of them is no part of `key`, nor any of them `key`.

    Keys of several sub-questions (`ADA`) are not compared.
    """
    if list(key) != sorted(set(key)):
        return False
    found: set[str] = set()
    if "选" in explanation or "答案" in explanation:
        found = {re.sub("[、,，和]", "", letters) for letters in _CHINESE.findall(_LATEX.sub("", explanation))}
    if " is" in explanation:
        found |= set(_ENGLISH.findall(explanation))
    return key not in found and not set("".join(found)) <= set(key)
