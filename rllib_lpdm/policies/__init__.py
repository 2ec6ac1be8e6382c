"""A trained cell as a policy: loaded, evaluated, filmed, exported and trained again."""
