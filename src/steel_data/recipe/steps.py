"""Find the function or filter that a recipe's `use = "…"` names and check its options against its signature.

Built-in steps are written out in the two tables below; a custom one is `"module:function"`, imported from the recipe's
folder, then the working directory. The signature is the schema: keyword-only parameters are the options.
"""

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_type_hints

from steel_data.errors import InputError, excerpt, first_line, nearest
from steel_data.recipe.first_fault import option_fault, shown
from steel_data.recipe.strict import has_boolean, is_number

# A builder takes a raw row and returns records; one that takes no row makes its source as a whole.
BUILDERS = {
    "chat": "steel_data.builders.chat:chat",
    "exam": "steel_data.builders.exam:exam",
    "document": "steel_data.builders.document:document",
    "identity": "steel_data.builders.identity:builtin",
    "contaminate": "steel_data.builders.contaminate:contaminate",
}
# What makes its source as a whole, but is a builder of rows like the others where it is given files.
WITH_FILES = {"identity": "steel_data.builders.identity:identity"}
INJECTORS = ("contaminate",)  # the items of a benchmark, which bypass every step
FILTERS = {
    "language": "steel_data.filters.language:Language",
    "length": "steel_data.filters.length:Length",
    "pattern": "steel_data.filters.pattern:Pattern",
    "quality": "steel_data.filters.quality:Quality",
    "clean": "steel_data.filters.clean:clean",
    "dedup": "steel_data.filters.dedup:Dedup",
    "decontaminate": "steel_data.filters.overlap:Decontaminate",
}


@dataclass(frozen=True)
class Builder:
    """A builder by name with its checked options; picklable, so that any worker can find the function again."""

    use: str
    options: dict[str, Any]
    folder: Path = field(compare=False)
    target: str  # module:function
    source_sha256: str = ""  # of a custom module, part of the cache's key
    whole: bool = False  # makes its source as a whole, of its options (and a benchmark's items), not row by row

    @property
    def injects(self) -> bool:
        """Whether its rows are the items of a benchmark: marked, and untouched by filters, sampling and targets."""
        return self.use in INJECTORS

    @property
    def is_custom(self) -> bool:
        """Whether the function is the user's own."""
        return ":" in self.use

    def function(self) -> Callable[..., Any]:
        """Return the function itself."""
        if self.is_custom:
            return _own_function(self.use, self.folder, self.source_sha256)
        function: Callable[..., Any] = _import(self.target, self.folder)
        return function

    def columns_read(self, columns: tuple[str, ...]) -> set[str]:
        """Return which columns of a row a builder of ours reads, where it is one of rows."""
        read: set[str] = _import(f"{self.target.partition(':')[0]}:columns_read", self.folder)(columns, self.options)
        return read

    def make(self) -> Any:
        """Return what a builder that makes its source as a whole makes of its options."""
        return self.function()(**self.options)


@dataclass(frozen=True)
class Filter:
    """A filter by name with its checked options. `settings` is the object of a built-in class, None for a function."""

    use: str
    options: dict[str, Any]
    folder: Path = field(compare=False)
    settings: Any = field(default=None, compare=False)
    source_sha256: str = ""
    is_expression: bool = False  # a custom filter that takes nothing and returns a polars expression

    @property
    def is_custom(self) -> bool:
        """Whether the function is the user's own."""
        return ":" in self.use

    @property
    def edits(self) -> bool:
        """Whether it may change a record, so that the steps after it look at another text than those before."""
        return self.settings is None and not self.is_expression

    @property
    def compares(self) -> Literal["benchmarks", "rows"] | None:
        """What a row is compared with; None: it is judged by itself."""
        compares: Literal["benchmarks", "rows"] | None = getattr(self.settings, "compares", None)
        return compares

    @property
    def late(self) -> bool:
        """Whether it is decided in the plan pass, among the survivors of all steps that judge a row by itself."""
        return self.compares is not None

    def function(self) -> Callable[..., Any]:
        """Return the function of a filter that is one."""
        if self.is_custom:
            return _own_function(self.use, self.folder, self.source_sha256)
        function: Callable[..., Any] = _import(FILTERS[self.use], self.folder)
        return function


def bind_builder(where: str, table: dict[str, Any], folder: Path, seed: int, has_path: bool) -> Builder:
    """Check a `build = {…}` table and return the builder. Raises InputError naming `where`."""
    where += " build"
    use, options = _split(where, table, BUILDERS)
    known = {**BUILDERS, **WITH_FILES} if has_path else BUILDERS
    function = _find(where, use, known, folder)
    checked = _check_options(where, use, function, options, seed)
    builder = Builder(use, checked, folder, known.get(use, use), _module_sha256(use, folder), _is_whole(use, function))
    if builder.is_custom:
        return builder
    try:  # what no row could put right is refused before a row is read
        made = builder.make() if builder.whole else function({}, **checked)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if builder.injects:
        checked["split"] = made["split"]  # which files are read depends on it
    return builder


def _is_whole(use: str, function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return ":" not in use and all(p.kind is p.KEYWORD_ONLY for p in parameters)


def bind_filter(where: str, table: dict[str, Any], folder: Path, seed: int) -> Filter:
    """Check one entry of `filters` and return the filter. Raises InputError naming `where`."""
    use, options = _split(where, table, FILTERS)
    target = _find(where, use, FILTERS, folder)
    checked = _check_options(where, use, target, options, seed)
    if ":" not in use and inspect.isclass(target):
        try:
            return Filter(use, checked, folder, settings=target(**checked))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
    positional = [p for p in inspect.signature(target).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    return Filter(use, checked, folder, None, _module_sha256(use, folder), is_expression=not positional)


def _split(where: str, table: dict[str, Any], known: dict[str, str]) -> tuple[str, dict[str, Any]]:
    options = dict(table)
    use = options.pop("use", None)
    if not isinstance(use, str):
        raise InputError(f'{where}: use is missing. Fix: {{ use = "{next(iter(known))}" }}.{nearest("", known)}')
    return use, options


def _find(where: str, use: str, known: dict[str, str], folder: Path) -> Callable[..., Any]:
    if ":" not in use and use not in known:
        raise InputError(
            f"{where}: no built-in '{use}'.{nearest(use, known)} A function of your own is \"module:function\"."
        )
    try:
        function: Callable[..., Any] = _import(known.get(use, use), folder)
        return function
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _import(target: str, folder: Path) -> Any:
    """Import `module:function`: ours by name, the user's from the recipe's folder, then the working directory."""
    module_name, _, attribute = target.partition(":")
    if module_name.startswith("steel_data."):
        module = importlib.import_module(module_name)
    else:
        file = _module_file(module_name, folder)
        module = _load_module(file, module_name, file.read_bytes())
    try:
        return getattr(module, attribute)
    except AttributeError:
        known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise InputError(f"no function '{attribute}' in {module_name}.{nearest(attribute, known)}") from None


def _module_file(module: str, folder: Path) -> Path:
    if not all(part.isidentifier() for part in module.split(".")):
        raise InputError(f"no module '{excerpt(module)}'. Fix: \"module:function\", the file's name without .py.")
    relative = Path(*module.split(".")).with_suffix(".py")
    for place in (folder, Path.cwd()):
        if (place / relative).is_file():
            return (place / relative).resolve()
    near = [p.stem for place in (folder, Path.cwd()) for p in place.glob("*.py")]
    raise InputError(
        f"no module '{module}': {relative} lies neither in {folder} nor in {Path.cwd()}.{nearest(module, near)}"
    )


@cache
def _load_module(file: Path, name: str, source: bytes) -> ModuleType:
    # Run from the very bytes that are part of the cache's key: an import would take bytecode that may be out of date.
    # Two recipes in two folders may both have a `my_filters.py`: the name in sys.modules carries the path.
    unique = f"steel_custom_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}_{name.replace('.', '_')}"
    module = ModuleType(unique)
    module.__file__ = str(file)
    sys.modules[unique] = module
    try:
        exec(compile(source, file, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{file} cannot be imported: {type(error).__name__}: {first_line(error)}. Fix: that module."
        ) from error
    return module


def _module_sha256(use: str, folder: Path) -> str:
    if ":" not in use:
        return ""
    return hashlib.sha256(_module_file(use.partition(":")[0], folder).read_bytes()).hexdigest()


def _own_function(use: str, folder: Path, sha256: str) -> Callable[..., Any]:
    """Return a custom function. Raises InputError where its module is no longer what the recipe was read with."""
    if _module_sha256(use, folder) != sha256:
        file = _module_file(use.partition(":")[0], folder)
        raise InputError(f"{file}: changed while it was in use. Fix: build again.")
    function: Callable[..., Any] = _import(use, folder)
    return function


def option_types(target: Callable[..., Any]) -> dict[str, tuple[Any, bool]]:
    """Return the options of a step: name -> (type, required).

    They are the fields of a filter class, the keyword-only parameters of a function.
    """
    hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    parameters = inspect.signature(target).parameters.values()
    return {p.name: (hints.get(p.name, Any), p.default is p.empty) for p in parameters if p.kind is p.KEYWORD_ONLY}


def _check_options(
    where: str, use: str, target: Callable[..., Any], options: dict[str, Any], seed: int
) -> dict[str, Any]:
    """Return the options with the types that the signature asks for; `seed` is filled in where it is asked for."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError
    from pydantic.errors import PydanticSchemaGenerationError

    known = option_types(target)
    for name in options:
        if name not in known:
            raise InputError(f"{where}: no option of '{use}' '{name}'.{nearest(name, known)}")
    checked = {}
    for name, (kind, required) in known.items():
        if name not in options:
            if name == "seed":
                checked[name] = seed
            elif required:
                raise InputError(f"{where}: option '{name}' of '{use}' is missing. Fix: {name} = …")
            continue
        value = options[name]
        if kind is float and type(value) is int:
            value = float(value)
        if is_number(kind) and has_boolean(value):  # pydantic takes true for 1.0
            raise InputError(f"{where}: {name} = {shown(value)}: no number. Fix: a number.")
        try:
            config = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
            adapter: TypeAdapter[Any] = TypeAdapter(kind, config=config)
        except PydanticSchemaGenerationError:
            checked[name] = value
            continue
        try:
            adapter.validate_python(value)
        except ValidationError as error:
            raise InputError(f"{where}: {option_fault(name, error)}") from None
        checked[name] = value
    return checked
