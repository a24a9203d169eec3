"""The method of the paper, pure: values in, values out, nothing but torch and the standard library.

In the order of Figure 2: `rankings`, `demonstrations`, `ranking_prompt`, `answers` (asking the black box),
`log_probabilities`, `rankings` (the white box's own opinion), `objectives` (training), `agreement`
(pseudo-labels). Leaves out: models, storage, settings and every side effect.
"""
