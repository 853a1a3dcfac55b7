"""Why a request was answered as it was: what `gateway why` remembers."""
