"""The comment on a pull request: one a key, found again by a hidden mark, on GitHub, GitLab and Azure DevOps."""
