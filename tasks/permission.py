"""Whether a flow run may do what its parameters say."""

from prefect.context import FlowRunContext

from paced.config import Section, home
from paced.config.allowed import check


def permit(**sections: Section) -> None:
    """Refuse a run that a form, a schedule or Prefect's API has started and that names what it may not use.

    Args:
        sections: the flow's parameters, by name.

    Raises:
        ConfigError: with the path of the field.
    """
    context = FlowRunContext.get()
    if context and context.flow_run and context.flow_run.deployment_id:
        check(home(), **sections)
