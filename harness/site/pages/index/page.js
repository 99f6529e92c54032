"use strict";
(function () {
    /* asv's own page was the first one, and its feed of regressions still names it so: its addresses begin with the
       name of a benchmark, or with "/". */
    function forward() {
        const part = location.hash.slice(1);
        if (part && !document.getElementById(part)) {
            location.replace(`graphs.html${location.hash}`);
        }
    }

    addEventListener("hashchange", forward);
    addEventListener("load", forward);
})();
