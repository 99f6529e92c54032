/* md5(text): the MD5 digest of a text's UTF-8 bytes in hexadecimal (RFC 1321). asv's page names with it the
   regressions that a visitor hid. */
"use strict";
(function () {
    const SHIFTS = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
    const SINES = Array.from({length: 64}, (_, i) => Math.floor(Math.abs(Math.sin(i + 1)) * 2 ** 32) | 0);
    const MIX = [
        (b, c, d) => (b & c) | (~b & d),
        (b, c, d) => (b & d) | (c & ~d),
        (b, c, d) => b ^ c ^ d,
        (b, c, d) => c ^ (b | ~d),
    ];
    const WORD = [(i) => i, (i) => 5 * i + 1, (i) => 3 * i + 5, (i) => 7 * i];

    /* Return the message padded to whole blocks: a 1 bit, zeros, and its length in bits. */
    function padded(bytes) {
        const blocks = new DataView(new ArrayBuffer(((bytes.length + 8) >> 6) * 64 + 64));
        bytes.forEach((byte, at) => blocks.setUint8(at, byte));
        blocks.setUint8(bytes.length, 0x80);
        blocks.setUint32(blocks.byteLength - 8, bytes.length << 3, true);
        blocks.setUint32(blocks.byteLength - 4, bytes.length >>> 29, true);
        return blocks;
    }

    function addBlock(state, blocks, offset) {
        let [a, b, c, d] = state;
        for (let i = 0; i < 64; i++) {
            const round = i >> 4;
            const word = blocks.getInt32(offset + 4 * (WORD[round](i) % 16), true);
            const sum = (a + MIX[round](b, c, d) + SINES[i] + word) | 0;
            const shift = SHIFTS[round][i % 4];
            [a, b, c, d] = [d, (b + ((sum << shift) | (sum >>> (32 - shift)))) | 0, b, c];
        }
        return [a, b, c, d].map((value, i) => (value + state[i]) | 0);
    }

    window.md5 = function (text) {
        const blocks = padded(new TextEncoder().encode(text));
        let state = [0x67452301, 0xefcdab89 | 0, 0x98badcfe | 0, 0x10325476];
        for (let offset = 0; offset < blocks.byteLength; offset += 64) {
            state = addBlock(state, blocks, offset);
        }
        const digest = new DataView(new ArrayBuffer(16));
        state.forEach((value, i) => digest.setInt32(4 * i, value, true));
        return Array.from(new Uint8Array(digest.buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
    };
})();
