-- Posts JSON of as many bytes as the argument after "--" says, the same each time.

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"

function init(args)
  local head, tail = '{"name": "roof", "location": "gate 19", "note": "', '"}'
  wrk.body = head .. string.rep("x", tonumber(args[1]) - #head - #tail) .. tail
end
