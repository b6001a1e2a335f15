"""What nginx refuses by itself, before it asks anybody: in words, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass

HEADER_LINE_MAX = "36k"  # nginx's limit for one line of a request's head: 32 kB of cookies with their name


@dataclass(frozen=True)
class Refusal:
    """One of nginx's own answers.

    Attributes:
        raised: nginx's number for it, which is no status of HTTP where the head is too large.
        code: as in the API's problems.
    """

    raised: int
    status: int
    title: str
    detail: str
    code: str


OWN_REFUSALS = (
    Refusal(400, 400, "Bad request", "The address or the request is malformed. Check the link.", "bad-request"),
    Refusal(404, 404, "Page not found", "There is nothing at this address. Check the link.", "not-found"),
    Refusal(405, 405, "Method not allowed", "This request method is not allowed here.", "method-not-allowed"),
    Refusal(
        413,
        413,
        "The request is too large",
        "The portal does not accept that much at once. With JavaScript on, the Files page uploads files of any size; "
        "so do instances.",
        "too-large",
    ),
    Refusal(414, 414, "The link is too long", "A link can have at most 32 kB.", "uri-too-long"),
    Refusal(
        494,
        431,
        "The browser sent too many cookies",
        "At most 32 kB of cookies, or of any other header, are accepted. Clear this site's cookies, then try again.",
        "headers-too-large",
    ),
)
