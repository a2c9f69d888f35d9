"""Routes with scopes, authorization, limits and problems: shared by `vtn` and `admin`."""

from bridge.web.asked import read_json, read_query
from bridge.web.limits import Patience, RateLimit
from bridge.web.openapi import OpenApi, describe
from bridge.web.replies import (
    Representation,
    reply_json,
    reply_list,
    reply_tagged,
    reply_with,
    represent,
)
from bridge.web.site import CALLER, Problem, Query, Route, make_site, serving

__all__ = [
    "CALLER",
    "OpenApi",
    "Patience",
    "Problem",
    "Query",
    "RateLimit",
    "Representation",
    "Route",
    "describe",
    "make_site",
    "read_json",
    "read_query",
    "reply_json",
    "reply_list",
    "reply_tagged",
    "reply_with",
    "represent",
    "serving",
]
