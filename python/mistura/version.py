"""Version of this package; what must agree with the mistura program is the local protocol (link.PROTOCOL)."""

VERSION = "0.1.0"
