"""Every English sentence that people read and that has to have a Chinese form, found in templates, code and `--help`."""

import ast
import re
from pathlib import Path

import jinja2

SRC = Path(__file__).parents[1] / "src"
# module -> the functions that write sentences for people; what only logs and errors say stays English
TOLD = {
    "steel_data/card/facts.py": ("verdict",),
    "steel_data/print.py": (
        "print_build", "print_forecast", "print_export", "print_recipes", "_print_unused", "_print_reasons", "_print_summary",
    ),
    "steel_train/preflight/print.py": ("_parts", "_sources", "_memory"),
    "steel_eval/compare/print.py": ("print_tests", "print_power"),
    "steel_eval/leak/print.py": ("print_leak", "_train_gap", "_set_words", "_limits"),
    "steel_data/passes/language_check.py": ("agreement",),
    "steel_data/explain/why.py": ("print_answer", "_lines", "_item_notes", "_where", "_unstored"),
    "steel_data/explain/diff.py": ("print_diff", "_print_recipe", "_print_totals"),
    "steel_data/analyze/facts.py": ("_verdict",),
    "steel_eval/score/accounting.py": ("in_words",),
    "steel_eval/run.py": ("print_scores", "_print_spread"),
    "steel_eval/compare/pair.py": ("_shown",),
    "steel_eval/report/page.py": ("heading",),
    "steel_eval/report/verdict.py": ("mark_verdict", "_of_task"),
    "steel_eval/report/flaws.py": ("_seeds", "_protocols", "_contaminated", "_noise", "_answers"),
    "steel_eval/contamination/verdict.py": ("lines", "_inflation", "_rate"),
    "steel_eval/contamination/label.py": (
        "short", "sentence", "weight", "caveat", "note", "estimated", "basis", "comparison_warning", "_claim", "_times",
    ),
    "steel_eval/leak/verdict.py": ("verdict", "_mixture", "_seen", "_limits"),
    "steel_eval/study/verdict.py": ("_verdict", "_of_pool"),
    "steel_eval/study/page.py": ("summary", "clean_claim", "_title"),
    "steel_eval/mix/print.py": ("sentences", "verdict_words", "confirmed_words", "rank_words"),
    "steel_eval/trial/results.py": ("sentences",),
    "steel_eval/trial/command.py": ("_power",),
    "steel_eval/mix/choose.py": ("_doubt",),
    "steel_eval/mix/results.py": ("_at_chance", "_verdict"),
    "steel_eval/study/command.py": ("_tries",),
    "steel_eval/study/results.py": ("_spill",),
    "steel_eval/leak/run.py": ("_apart", "_fitted", "_beside"),
    "steel_eval/leak/reference_runs.py": ("saw",),
    "steel_eval/leak/twins.py": ("twin_verdict",),
    "steel_eval/leak/rates/match.py": ("words", "_rate_words"),
    "steel_eval/audit/findings.py": ("twins", "_options", "_lacks"),
    "steel_eval/audit/answers.py": ("consensus", "negative"),
    "steel_eval/audit/run.py": ("audit_command",),
    "steel_data/passes/ledger.py": ("losses",),
    "steel_data/builders/unused.py": ("idle",),
    "steel_data/analyze/print.py": ("print_analysis", "_part", "_columns", "_sampled", "layout_lines"),
    "steel_data/analyze/analysis.py": ("_refused",),
}  # fmt: skip
WORDS = re.compile(r"[A-Za-z]{2,}")


def of_templates() -> set[str]:
    """Return what the pages' templates write by `t` and `plain`, and what their scripts say."""
    found: set[str] = set()
    for path in SRC.rglob("*.html.j2"):
        tree = jinja2.Environment().parse(path.read_text(encoding="utf-8"))
        for call in tree.find_all(jinja2.nodes.Call):
            if isinstance(call.node, jinja2.nodes.Name) and call.node.name in ("t", "plain", "title") and call.args:
                first = call.args[0]
                consts = [first] if isinstance(first, jinja2.nodes.Const) else list(first.find_all(jinja2.nodes.Const))
                found |= {c.value for c in consts if isinstance(c.value, str)}
        for loop in tree.find_all(jinja2.nodes.For):  # lists of (id, words)
            found |= {t.items[1].value for t in loop.iter.find_all(jinja2.nodes.Tuple)
                      if len(t.items) == 2 and all(isinstance(i, jinja2.nodes.Const) for i in t.items)}  # fmt: skip
    for script in SRC.rglob("*.js"):
        found |= set(re.findall(r'say\("([^"]*)"', script.read_text(encoding="utf-8")))
    return {text for text in found if WORDS.search(text.replace("code", ""))}


def of_help() -> set[str]:
    """Return the paragraphs of every command's help and that of its options."""
    from typer.main import get_command

    from steel.cli import app, data, eval_, train

    found: set[str] = set()
    waiting = [get_command(one) for one in (app, data, train, eval_)]
    while waiting:
        command = waiting.pop()
        found |= {" ".join(paragraph.split()) for paragraph in (command.help or "").split("\n\n")}
        found |= {parameter.help for parameter in command.params if getattr(parameter, "help", None)}
        waiting += getattr(command, "commands", {}).values()
    return {text for text in found if text and not text.startswith("Example: ")}


def english(page: str) -> str:
    """Return a page without its Chinese spans and the marks of its English ones."""
    inner = r"(?:(?!</?span)[\s\S]|<span[^>]*>(?:(?!</?span)[\s\S])*</span>)*"
    page = re.sub(rf'<span class="zh" lang="zh">{inner}</span>', "", page)
    return re.sub(rf'<span class="en" lang="en">({inner})</span>', r"\1", page)


def of_code() -> set[str]:
    """Return the sentences of TOLD's functions and all that `print_next` prints, `{}` for what changes."""
    found: set[str] = set()
    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name == "next_steps":
                found |= {text for part in node.body[1:] for text in _texts(part) if " " in text}
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "print_next":
                found |= {text for part in node.args for text in _texts(part) if " " in text}
    for name, functions in TOLD.items():
        tree = ast.parse((SRC / name).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name in functions:
                body = node.body[1:] if ast.get_docstring(node) else node.body
                for statement in body:
                    found |= _texts(statement)
    return {text for text in found if len(WORDS.findall(text)) > 1}


def of_headings() -> set[str]:
    """Return the headings of the tables that commands print, as far as they stand in the code."""
    found: set[str] = set()
    for path in SRC.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lists = {ast.unparse(n.targets[0]): n.value for n in ast.walk(tree) if isinstance(n, ast.Assign)}
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "plain_table":
                for arg in call.args:
                    name = ast.unparse(arg.value) if isinstance(arg, ast.Starred) else ""
                    found |= {text.strip() for text in _texts(lists.get(name, arg))}
    return {text for text in found if WORDS.search(text.replace("{}", ""))}


def _texts(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Raise):  # errors stay English
        return set()
    if isinstance(node, ast.JoinedStr):
        parts = [v.value if isinstance(v, ast.Constant) else "{}" for v in node.values]
        inner = [v.value for v in node.values if isinstance(v, ast.FormattedValue)]
        return {"".join(map(str, parts))}.union(*map(_texts, inner)) if inner else {"".join(map(str, parts))}
    if isinstance(node, ast.Constant):
        return {node.value} if isinstance(node.value, str) else set()
    if isinstance(node, ast.Subscript):  # keys of tables
        return _texts(node.value)
    return set().union(*map(_texts, ast.iter_child_nodes(node)))
