-- The additive terms of every variant in the disc, for the months that this build sums. An anchor without an outcome near
-- adds nothing to numerator and denominator, so only the others are looked at one by one.
{{ block_sums('int_anchor_disc_counts', in_rings=false) }}
