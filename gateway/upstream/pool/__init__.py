"""The endpoints of one upstream: which of them a request gets, and what every outcome says about
their health."""
