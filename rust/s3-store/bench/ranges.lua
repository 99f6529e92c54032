-- Random aligned ranges of one object. Arguments behind `--`: path, size of the object, size of a range (bytes).
-- A line at the end gives the requests per second and every kind of error.

local path, object_size, range_size

function init(args)
   path, object_size, range_size = args[1], tonumber(args[2]), tonumber(args[3])
   math.randomseed(tonumber(tostring({}):sub(8)) or 1)
end

function request()
   local first = math.random(0, object_size / range_size - 1) * range_size
   local range = string.format("bytes=%d-%d", first, first + range_size - 1)
   return wrk.format("GET", path, { Range = range })
end

function done(summary)
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   io.write(string.format("RESULT %.1f %d %d\n", summary.requests / summary.duration * 1e6, failed, summary.bytes))
end
