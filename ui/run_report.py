"""A run's HTML report inside of a page: in a frame that runs no script, asks no host and cannot reach the page."""

from ui.escaping import as_html

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def framed(report: str) -> str:
    """A document around the report, to be given to `st.iframe`, whose own frame would let scripts run.

    The policy is inherited by the inner frame, whose `sandbox` has no exception: no script, no form, no way out.
    """
    return (
        f'<!doctype html><meta http-equiv="Content-Security-Policy" content="{as_html(_POLICY)}">'
        "<style>html,body{margin:0;height:100%;background:#fff}"
        "iframe{border:0;width:100%;height:100%;display:block;color-scheme:light;background:#fff}</style>"
        f'<iframe sandbox="" title="report" srcdoc="{as_html(report)}"></iframe>'
    )
