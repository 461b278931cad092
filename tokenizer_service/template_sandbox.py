"""jinja2's sandbox with bounds on time and memory: chat templates come from whoever made the model."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.compiler import CodeGenerator
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from tokenizer_service import template_growth
from tokenizer_service.template_budget import current_budget

# Names with a space, which no template can write.
_MADE = "made value"
_TURN = "loop turn"


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Holds every loop turn, call, operation and value of a template against the current budget.

    A thread cannot be stopped from outside, so the template's own code asks at each of these places.
    """

    intercepted_binops = frozenset({"+", "*", "%", "**"})

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Arguments are jinja2's."""
        super().__init__(*args, **kwargs)
        self.code_generator_class = _BoundedCode
        self.finalize = _counted_output
        self.filters = _checked_filters(self.filters)
        # It writes as much as it is told to.
        del self.globals["lipsum"]

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """See jinja2."""
        return attr not in template_growth.UNSAFE_ATTRIBUTES and super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """See jinja2."""
        budget = current_budget()
        if budget is None:
            return super().call_binop(context, operator, left, right)
        template_growth.check_operation(budget, operator, left, right)
        value = super().call_binop(context, operator, left, right)
        budget.take_value(value)
        return value

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """See jinja2, also for the names."""
        budget = current_budget()
        if budget is None:
            return super().call(__context, __obj, *args, **kwargs)
        budget.check_time()
        if getattr(__obj, "__name__", "") == "join":
            args = template_growth.listed(args)
        template_growth.check_call(budget, __obj, args, kwargs)
        value = super().call(__context, __obj, *args, **kwargs)
        budget.take_value(value)
        return value

    def getitem(self, obj: Any, argument: Any) -> Any:
        """See jinja2; filters go through long lists with it."""
        _check_time()
        return super().getitem(obj, argument)

    def call_test(self, *args: Any, **kwargs: Any) -> Any:
        """See jinja2; filters go through long lists with it."""
        _check_time()
        return super().call_test(*args, **kwargs)


class _Filters(dict[str, Callable[..., Any]]):
    """Filters that are checked, whoever adds them."""

    def __setitem__(self, name: str, function: Callable[..., Any]) -> None:
        super().__setitem__(name, _checked(name, function))


def _checked_filters(filters: Mapping[str, Callable[..., Any]]) -> _Filters:
    ours: dict[str, Callable[..., Any]] = {_MADE: _unchanged, _TURN: _count_turn}
    checked = _Filters()
    for name, function in [*filters.items(), *ours.items()]:
        if name not in template_growth.UNSAFE_FILTERS:
            checked[name] = function
    return checked


class _Bounds(NodeTransformer):
    """Adds to a template what counts its loops, and the values that it makes without a call."""

    def __init__(self, environment: BoundedEnvironment) -> None:
        self._context = nodes.EvalContext(environment)

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802
        literals = sum(len(each.data) for each in node.find_all(nodes.TemplateData))
        turn = _filtered(nodes.Const(literals, lineno=node.lineno), _TURN)
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(turn, lineno=node.lineno))
        if node.test is not None:
            node.test = nodes.And(turn, node.test, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        # The parts too: their text must be bounded before it is made.
        node.nodes = [self._made(self.visit(each)) for each in node.nodes]
        return self._made(node)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        return self._made(self.generic_visit(node))

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        return self._made(self.generic_visit(node))

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._made(node) if node.ctx == "load" else node

    def _made(self, node: Any) -> nodes.Expr:
        try:
            node.as_const(self._context)
        except nodes.Impossible:
            return _filtered(node, _MADE)
        return node  # type: ignore[no-any-return]


class _BoundedCode(CodeGenerator):
    def visit_Template(self, node: nodes.Template, frame: Any = None) -> None:  # noqa: N802
        assert isinstance(self.environment, BoundedEnvironment)
        _Bounds(self.environment).visit(node)
        node.set_environment(self.environment)
        super().visit_Template(node, frame)


def _filtered(node: Any, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _checked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    # Some filters take jinja2's context before the value.
    first = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        budget = current_budget()
        if budget is None:
            return function(*args, **kwargs)
        budget.check_time()
        if name == "join":
            args = template_growth.listed(args)
        template_growth.check_filter(budget, name, args[first], args[first + 1 :], kwargs)
        value = function(*args, **kwargs)
        budget.take_value(value)
        return value

    return checked


def _counted_output(value: Any) -> Any:
    budget = current_budget()
    if budget is not None:
        budget.take(budget.text_size(value))
    return value


def _unchanged(value: Any) -> Any:
    return value


@pass_context  # else it would be computed once, when the template is compiled
def _count_turn(context: Context, num_chars: int) -> bool:
    """One turn of a loop, which writes this many characters of the template's own."""
    budget = current_budget()
    if budget is not None:
        budget.take(1 + num_chars)
    return True


def _check_time() -> None:
    budget = current_budget()
    if budget is not None:
        budget.check_time()
