"""One colour per stage, the same in every picture; told apart by people with any colour vision, on light and dark."""

COLOURS = {
    "send_wait": "#c9ced6",
    "first_byte": "#8fb8de",
    "transfer": "#2f6fb0",
    "decode_wait": "#f2c14e",
    "decode": "#c8452f",
    "copy_wait": "#e6d3a3",
    "shard_copy": "#8a5fb0",
    "copy": "#2f9e6e",
}
