"""Names of request headers that applications or proxies trust, so that no client may bring them along.

nginx cannot clear headers by a pattern without another module, so the families are spelled out. Headers with
underscores (`X_Forwarded_For`) never pass: nginx drops them (`underscores_in_headers off`).
"""

from __future__ import annotations

# Always set by the template, for every request to an instance; an environment must not set them. Lower case.
SET_BY_NGINX = frozenset(
    {
        "connection",
        "content-length",
        "cookie",
        "host",
        "transfer-encoding",
        "upgrade",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
    }
)

# What tells where a request came from.
_ADDRESSES = (
    "CF-Connecting-IP",
    "CF-Connecting-IPv6",
    "Fastly-Client-IP",
    "Forwarded",
    "Forwarded-For",
    "Forwarded-Host",
    "Forwarded-Proto",
    "Front-End-Https",
    "True-Client-IP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "X-Forwarded",
    "X-Forwarded-By",
    "X-Forwarded-Path",
    "X-Forwarded-Prefix",
    "X-Forwarded-Protocol",
    "X-Forwarded-Scheme",
    "X-Forwarded-Server",
    "X-Forwarded-Ssl",
    "X-Forwarded-Uri",
    "X-Forwarded-Url",
    "X-Forwarded-Method",
    "X-Host",
    "X-HTTPS",
    "X-Original-For",
    "X-Original-Forwarded-For",
    "X-Original-Host",
    "X-Original-Method",
    "X-Original-Proto",
    "X-Original-Remote-Addr",
    "X-Original-URI",
    "X-Original-URL",
    "X-Originating-IP",
    "X-ProxyContextPath",
    "X-Proxy-User-IP",
    "X-Real-IP",
    "X-Real-Port",
    "X-Remote-Addr",
    "X-Remote-IP",
    "X-Rewrite-URL",
    "X-Scheme",
    "X-Script-Name",
    "X-Url-Scheme",
    "Proxy",  # becomes HTTP_PROXY in CGI programs
)

# What tells who the user is.
_IDENTITIES = (
    "Proxy-Authorization",
    "Remote-Email",
    "Remote-Group",
    "Remote-Groups",
    "Remote-Name",
    "Remote-User",
    "SSL-Client-Cert",
    "SSL-Client-DN",
    "SSL-Client-Verify",
    "X-Auth-Email",
    "X-Auth-Group",
    "X-Auth-Groups",
    "X-Auth-Name",
    "X-Auth-Request-Access-Token",
    "X-Auth-Request-Email",
    "X-Auth-Request-Groups",
    "X-Auth-Request-Preferred-Username",
    "X-Auth-Request-Redirect",
    "X-Auth-Request-User",
    "X-Auth-Role",
    "X-Auth-Roles",
    "X-Auth-Subject",
    "X-Auth-Token",
    "X-Auth-User",
    "X-Auth-User-ID",
    "X-Auth-Userid",
    "X-Auth-Username",
    "X-Authenticated-Email",
    "X-Authenticated-Groups",
    "X-Authenticated-User",
    "X-Authenticated-Userid",
    "X-Client-Cert",
    "X-Client-DN",
    "X-Client-Verify",
    "X-Forwarded-Access-Token",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Email",
    "X-Forwarded-Group",
    "X-Forwarded-Groups",
    "X-Forwarded-Preferred-Username",
    "X-Forwarded-Role",
    "X-Forwarded-Roles",
    "X-Forwarded-Tls-Client-Cert",
    "X-Forwarded-Tls-Client-Cert-Info",
    "X-Forwarded-User",
    "X-Forwarded-Username",
    "X-Remote-Email",
    "X-Remote-Group",
    "X-Remote-Groups",
    "X-Remote-User",
    "X-SSL-Client-Cert",
    "X-SSL-Client-DN",
    "X-SSL-Client-S-DN",
    "X-SSL-Client-Verify",
    "X-User",
    "X-User-Email",
    "X-User-ID",
    "X-Username",
    "X-WEBAUTH-EMAIL",
    "X-WEBAUTH-GROUPS",
    "X-WEBAUTH-NAME",
    "X-WEBAUTH-ROLE",
    "X-WEBAUTH-USER",
)

# What nginx and the gate say to each other.
_GATE = (
    "X-Gate-Client",
    "X-Gate-Cookie",
    "X-Gate-Instance",
    "X-Gate-Location",
    "X-Gate-Means",
    "X-Gate-Method",
    "X-Gate-Prefix",
    "X-Gate-Reason",
    "X-Gate-Title",
    "X-Gate-Upgrade",
    "X-Gate-Upstream",
    "X-Gate-Uri",
)

# RStudio builds its addresses from these, before any other header.
_APPLICATIONS = (
    "RStudio-Connect-Credentials",
    "X-RSC-Request",
    "X-RStudio-Request",
    "X-RStudio-Root-Path",
    "X-RStudio-Server-Username",
    "X-RStudio-Username",
)

# The portal believes nothing but what nginx sets; these are kept from it for good measure.
CLEARED_TOWARDS_PORTAL = ("Forwarded", "Proxy", "X-Forwarded-Prefix", "X-Original-URI", "X-Real-IP", *_GATE)
CLEARED_TOWARDS_INSTANCES = (*_ADDRESSES, *_IDENTITIES, *_GATE, *_APPLICATIONS)
