"""The pages for browsers, the dashboard and the portal: files as they are, no build step."""
