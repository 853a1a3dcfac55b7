-- Requests no two of which have the same fields or the same target, as of clients that send a trace or a request id of their own.
local number = 0
request = function()
  number = number + 1
  wrk.headers["X-Request-ID"] = string.format("varied-%016x", number)
  return wrk.format("GET", wrk.path .. "?number=" .. number)
end
