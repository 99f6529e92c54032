/* The part of the jQuery plugin "stupidtable" that asv's page uses: a click on a header with data-sort="kind" sorts
   the body's rows by that column, a second click turns the order; header.stupidsort("asc"|"desc") does the same, and
   the table hears "aftertablesort" with {column, direction}. A cell's data-sort-value goes before its text. */
"use strict";
(function ($) {
    const KINDS = {
        int: (a, b) => parseInt(a, 10) - parseInt(b, 10),
        float: (a, b) => parseFloat(a) - parseFloat(b),
        string: (a, b) => a.localeCompare(b),
    };

    function valueOf(row, column) {
        const cell = $(row).children().eq(column);
        const given = cell.attr("data-sort-value");
        return given === undefined ? cell.text() : given;
    }

    function sort(header, direction) {
        const table = header.closest("table");
        const kinds = table.data("stupidtable-kinds");
        const column = header.index();
        const compare = kinds[header.attr("data-sort")];
        if (!compare) {
            return;
        }
        const sign = direction === "desc" ? -1 : 1;
        table.children("tbody").each(function () {
            const rows = $(this).children("tr").get();
            rows.sort((a, b) => sign * compare(valueOf(a, column), valueOf(b, column)));
            $(this).append(rows);
        });
        table.data("stupidtable-sorted", {column: column, direction: direction});
        table.trigger("aftertablesort", {column: column, direction: direction});
    }

    $.fn.stupidtable = function (kinds) {
        return this.each(function () {
            const table = $(this);
            table.data("stupidtable-kinds", Object.assign({}, KINDS, kinds));
            table.on("click.stupidtable", "thead th[data-sort]", function () {
                $(this).stupidsort();
            });
        });
    };

    $.fn.stupidsort = function (direction) {
        return this.each(function () {
            const header = $(this);
            const last = header.closest("table").data("stupidtable-sorted") || {};
            const again = last.column === header.index() && last.direction === "asc";
            sort(header, direction || (again ? "desc" : "asc"));
        });
    };
})(jQuery);
