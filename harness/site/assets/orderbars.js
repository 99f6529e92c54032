/* flot: bars of several series stand side by side over a category, from zero; asv gives each series a "bars.order".

   The plugin that asv 0.6.6 loads for this subtracts the x values from each other, which are names over a parameter
   of strings: every bar was lost. Here the place of a category is already known when the bars are moved, since this
   file is loaded after flot's category plugin. */
"use strict";
(function ($) {
    function startAtZero(plot, options) {
        const axis = options.yaxes[0];
        if (options.series.bars.show && !axis.transform && axis.min > 0) {
            axis.min = 0; // asv starts at the lowest bar, which then has no height
            axis.max *= 1.05;
        }
    }

    function standSideBySide(plot, series, datapoints) {
        if (!series.bars.show || !series.bars.order) {
            return;
        }
        const orders = plot.getData().filter((s) => s.bars.show && s.bars.order).map((s) => s.bars.order);
        const rank = orders.filter((order) => order < series.bars.order).length;
        const shift = (rank - (orders.length - 1) / 2) * series.bars.barWidth;
        const points = datapoints.points;
        for (let i = 0; i < points.length; i += datapoints.pointsize) {
            if (points[i] !== null) {
                points[i] += shift;
            }
        }
    }

    $.plot.plugins.push({
        name: "orderbars",
        version: "1",
        options: {series: {bars: {order: null}}},
        init: function (plot) {
            plot.hooks.processOptions.push(startAtZero);
            plot.hooks.processDatapoints.push(standSideBySide);
        },
    });
})(jQuery);
