-- The same in the rings.
{{ block_sums('int_anchor_ring_counts', in_rings=true) }}
