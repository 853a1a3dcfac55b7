"""The Lua that decides in Redis: one script for all rules of a request, by Redis' own clock.

It is algorithms.py, quotas.py and rescale.py once more, state for state; the same tests run over
both. ledger.py says what it is called with and what it answers. It either counts a request in all
of its rules or in none. A state is a short string, a list of times or a sorted set, and expires
when it would decide like a fresh one. It names the limit it counts by, so that a gateway with
another limit rescales it: gateways need not reload at once.
"""

from __future__ import annotations

from gateway.store.redis.connection import Script

LIMITS = Script(
    b"""
local clock = tonumber(ARGV[1])
if clock then
  clock = math.floor(clock * 1000000 + 0.5)
else
  local time = redis.call('TIME')
  clock = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local now = clock / 1000000
local action = ARGV[2]
local LEEWAY = 1e-6

local function save(key, seconds, ...)
  local words = {...}
  for i, word in ipairs(words) do words[i] = string.format('%.17g', word) end
  local kept = math.ceil(math.max(0, seconds) * 1000) + 1000
  redis.call('SET', key, table.concat(words, ' '), 'PX', kept)
end

local function saved(key)
  local value, words = redis.call('GET', key), {}
  if value then
    for word in string.gmatch(value, '%S+') do words[#words + 1] = tonumber(word) end
  end
  return unpack(words)
end

local function scaled(value, from, to)
  if from == to or not from then return value end
  return value * to / from
end

local function moved(start, from, to)
  if from == to or not from then return start end
  return now - (now - start) * to / from
end

local kinds = {}

kinds.token_bucket = {
  load = function(r)
    local level, stamp, quota, rate = saved(r.key)
    r.stamp = math.max(now, stamp or now)
    r.room = r.quota
    if level then
      level = math.min(quota or r.quota, level + math.max(0, now - stamp) * (rate or r.rate))
      r.room = math.min(r.quota, scaled(level, quota, r.quota))
    end
    r.back = (r.quota - r.room) / r.rate
    if r.burst > 0 then
      local first = redis.call('LINDEX', r.key .. ':burst', -r.burst)
      r.hold = first and tonumber(first) + 1 - now or 0
    end
  end,
  wait = function(r, cost) return math.max((cost - r.room) / r.rate, r.hold) end,
  put = function(r, cost, admitted)
    r.room = math.min(r.quota, r.room - cost)
    r.back = (r.quota - r.room) / r.rate
    save(r.key, r.back, r.room, r.stamp, r.quota, r.rate)
    if admitted then r.kind.admit(r, 1) end
  end,
  admit = function(r, count)
    if r.burst == 0 then return end
    local key, times = r.key .. ':burst', {}
    for i = 1, math.min(count, r.burst) do times[i] = string.format('%.17g', now) end
    for from = 1, #times, 1000 do
      redis.call('RPUSH', key, unpack(times, from, math.min(#times, from + 999)))
    end
    redis.call('LTRIM', key, -r.burst, -1)
    redis.call('PEXPIRE', key, 2000)
  end,
  -- Requests that the burst has room for, and the seconds until there is room for one.
  burst = function(r)
    local key = r.key .. ':burst'
    local from, to = 0, redis.call('LLEN', key)
    local count = to
    while from < to do
      local middle = math.floor((from + to) / 2)
      if tonumber(redis.call('LINDEX', key, middle)) > now - 1 then
        to = middle
      else
        from = middle + 1
      end
    end
    local room = r.burst - (count - from)
    local first = room < 1 and redis.call('LINDEX', key, -r.burst)
    return room, first and tonumber(first) + 1 - now or 0
  end,
  refund = function(r, units)
    local room = r.quota - tonumber(r.a) - (now - r.flag / 1000000) * r.rate
    if room > 0 then r.kind.put(r, -math.min(units, room), false) end
  end,
}

kinds.fixed_window = {
  load = function(r)
    local start, count, quota, window = saved(r.key)
    if start then start, count = moved(start, window, r.window), scaled(count, quota, r.quota) end
    if not start or start + r.window - now < LEEWAY then start, count = now, 0 end
    r.start, r.count = start, count
    r.room, r.back = r.quota - count, count > 0 and start + r.window - now or 0
  end,
  wait = function(r) return r.start + r.window - now end,
  put = function(r, cost)
    r.count = math.max(0, r.count + cost)
    r.room, r.back = r.quota - r.count, r.start + r.window - now
    save(r.key, r.back, r.start, r.count, r.quota, r.window)
  end,
  refund = function(r, units)
    if r.flag / 1000000 >= r.start then r.kind.put(r, -units) end
  end,
}

kinds.sliding_window = {
  load = function(r)
    local start, current, previous, quota, window = saved(r.key)
    if start then
      start = moved(start, window, r.window)
      current, previous = scaled(current, quota, r.quota), scaled(previous, quota, r.quota)
    end
    if not start or now - start > 2 * r.window - LEEWAY then
      start, current, previous = now, 0, 0
    elseif now - start > r.window - LEEWAY then
      start, current, previous = start + r.window, 0, current
    end
    r.start, r.current, r.previous = start, current, previous
    r.elapsed = math.max(0, now - start)
    r.room = r.quota - current - previous * (1 - r.elapsed / r.window)
    r.back = (current > 0 or previous > 0) and r.window - r.elapsed or 0
  end,
  wait = function(r, cost)
    local room = r.quota - cost - r.current
    if room >= 0 then return r.window * (1 - room / r.previous) - r.elapsed end
    return r.window - r.elapsed + r.window * (1 - (r.quota - cost) / r.current)
  end,
  put = function(r, cost)
    local current = r.current + cost
    if current < 0 then r.previous = math.max(0, r.previous + current) end
    r.current = math.max(0, current)
    r.room, r.back = r.room - cost, r.window - r.elapsed
    save(r.key, 2 * r.window - r.elapsed, r.start, r.current, r.previous, r.quota, r.window)
  end,
  refund = function(r, units)
    local taken = r.flag / 1000000
    if taken >= r.start then
      r.current = math.max(0, r.current - units)
    elseif taken >= r.start - r.window then
      r.previous = math.max(0, r.previous - units)
    else
      return
    end
    r.kind.put(r, 0)
  end,
}

-- A log is a list of "time mark": the units counted up to there, by all before it too. The mark
-- before the first is kept apart.
local function entry(r, index)
  local time, mark = string.match(redis.call('LINDEX', r.key, index), '^(%S+) (%S+)$')
  return tonumber(time), tonumber(mark)
end

local function mark_at(r, index)
  local _, mark = entry(r, index)
  return mark
end

local function first_where(r, from, to, reached)
  while from < to do
    local middle = math.floor((from + to) / 2)
    if reached(entry(r, middle)) then to = middle else from = middle + 1 end
  end
  return from
end

local function append(r, entries)
  for from = 1, #entries, 1000 do
    redis.call('RPUSH', r.key, unpack(entries, from, math.min(#entries, from + 999)))
  end
end

local function written(time, mark) return string.format('%.17g %.17g', time, mark) end

local function rescaled(r, quota, window)
  local entries, last = {}, 0
  local before, after = r.mark - r.base, math.floor((r.mark - r.base) * r.quota / quota + 0.5)
  for _, element in ipairs(redis.call('LRANGE', r.key, 0, -1)) do
    local time, mark = string.match(element, '^(%S+) (%S+)$')
    mark = math.ceil((mark - r.base) * after / before)
    if mark > last then
      entries[#entries + 1] = written(moved(tonumber(time), window, r.window), mark)
      last = mark
    end
  end
  redis.call('DEL', r.key)
  append(r, entries)
  r.base, r.mark, r.count = 0, last, #entries
end

local function keep_log(r)
  redis.call('PEXPIRE', r.key, math.ceil(r.window * 1000) + 1000)
  save(r.key .. ':limit', r.window, r.quota, r.window, r.base)
end

kinds.sliding_log = {
  load = function(r)
    local quota, window, base = saved(r.key .. ':limit')
    r.count, r.base, r.mark = redis.call('LLEN', r.key), base or 0, base or 0
    if r.count > 0 and not base then
      redis.call('DEL', r.key)
      r.count = 0
    end
    if r.count > 0 then
      local since = now - window + LEEWAY
      local gone = first_where(r, 0, r.count, function(time) return time > since end)
      if gone > 0 then
        r.base = mark_at(r, gone - 1)
        r.mark = r.base
        redis.call('LTRIM', r.key, gone, -1)
        r.count = r.count - gone
        save(r.key .. ':limit', window, quota, window, r.base)
      end
    end
    if r.count > 0 then
      r.mark = mark_at(r, -1)
      if r.mark > r.base and (quota ~= r.quota or window ~= r.window) then
        rescaled(r, quota, window)
        keep_log(r)
      end
    end
    r.room = r.quota - (r.mark - r.base)
    r.back = r.count > 0 and entry(r, -1) + r.window - now or 0
  end,
  wait = function(r, cost)
    local enough = r.mark + cost - r.quota
    local last = first_where(r, 0, r.count - 1, function(_, mark) return mark >= enough end)
    return entry(r, last) + r.window - now
  end,
  put = function(r, cost)
    r.mark = r.mark + cost
    redis.call('RPUSH', r.key, written(now, r.mark))
    r.room, r.back = r.room - cost, r.window
    keep_log(r)
  end,
  refund = function(r, units)
    local taken = r.flag / 1000000
    local index = first_where(r, 0, r.count, function(time) return time >= taken end)
    if index == r.count or r.count - index > 1000 then return end
    local before = index > 0 and mark_at(r, index - 1) or r.base
    -- Another request of the same moment may have been given back already.
    while index + 1 < r.count and entry(r, index) == taken and mark_at(r, index) == before do
      index = index + 1
    end
    if entry(r, index) ~= taken then return end
    units = math.min(units, mark_at(r, index) - before)
    local entries = redis.call('LRANGE', r.key, index, -1)
    for i, element in ipairs(entries) do
      local time, old = string.match(element, '^(%S+) (%S+)$')
      entries[i] = written(tonumber(time), old - units)
    end
    if index > 0 then redis.call('LTRIM', r.key, 0, index - 1) else redis.call('DEL', r.key) end
    append(r, entries)
    keep_log(r)
  end,
}

kinds.quota = {
  load = function(r)
    local ends, count, quota, window = saved(r.key)
    if not ends or now >= ends or (window and window ~= r.window) then
      count = ends and now < ends and count or 0
      ends = now < tonumber(r.a) and tonumber(r.a) or tonumber(r.b)
    end
    count = scaled(count, quota, r.quota)
    r.ends, r.count = ends, count
    r.room, r.back = r.quota - count, count > 0 and ends - now or 0
  end,
  wait = function(r) return r.ends - now end,
  put = function(r, cost)
    r.count = math.max(0, r.count + cost)
    r.room, r.back = r.quota - r.count, r.ends - now
    save(r.key, r.back, r.ends, r.count, r.quota, r.window)
  end,
  refund = function(r, units)
    if tonumber(r.a) == r.ends then r.kind.put(r, -units) end
  end,
}

kinds.concurrency = {
  load = function(r)
    redis.call('ZREMRANGEBYSCORE', r.key, '-inf', string.format('%.17g', now))
    r.room, r.back = r.quota - redis.call('ZCARD', r.key), 0
  end,
  wait = function(r) return r.window end,
  put = function(r, cost)
    if cost > 0 then
      redis.call('ZADD', r.key, string.format('%.17g', now + tonumber(r.b)), r.a)
      redis.call('PEXPIRE', r.key, math.ceil(tonumber(r.b) * 1000) + 1000)
    end
    r.room = r.room - cost
  end,
  refund = function(r) redis.call('ZREM', r.key, r.a) end,
}

local rules, refused = {}, false
for i, key in ipairs(KEYS) do
  local at = 2 + (i - 1) * 9
  local r = {
    key = key, kind = kinds[ARGV[at + 1]],
    quota = tonumber(ARGV[at + 2]), rate = tonumber(ARGV[at + 3]),
    window = tonumber(ARGV[at + 4]), burst = tonumber(ARGV[at + 5]), cost = tonumber(ARGV[at + 6]),
    flag = tonumber(ARGV[at + 7]), a = ARGV[at + 8], b = ARGV[at + 9], hold = 0,
  }
  r.kind.load(r)
  r.short = r.room < r.cost - LEEWAY or r.hold > 0
  if r.short and r.flag == 0 then refused = true end
  rules[i] = r
end

local told = {}
for _, r in ipairs(rules) do
  local first, second, third = nil, nil, 0
  if action == 'take' and r.short then
    first, second = -1, math.max(LEEWAY, r.kind.wait(r, r.cost))
  elseif action == 'lease' then
    -- Counts `cost` in any case, grants of the `flag` units wanted as many as there are, and says
    -- when there will be one more.
    -- Where there is a burst, each unit counts as a request of this moment.
    local grant = math.floor(r.room - r.cost + LEEWAY)
    if r.burst > 0 then grant = math.min(grant, r.kind.burst(r) - math.max(0, r.cost)) end
    grant = math.max(0, math.min(r.flag, grant))
    if grant + r.cost ~= 0 then r.kind.put(r, grant + r.cost, false) end
    if r.burst > 0 then
      r.kind.admit(r, math.ceil(math.max(0, grant + r.cost)))
      local room
      room, r.hold = r.kind.burst(r)
      r.short = room < 1
    end
    first, second, third = grant, r.back, 0
    if r.room < 1 - LEEWAY or (r.burst > 0 and r.short) then
      third = math.max(LEEWAY, r.kind.wait(r, 1))
    end
    told[#told + 1] = math.floor(math.max(0, r.room) * 1000000 + 0.5)
  else
    if action == 'charge' then
      r.kind.put(r, r.cost, false)
    elseif action == 'refund' then
      r.kind.refund(r, r.cost)
    elseif action == 'take' and not refused then
      r.kind.put(r, r.cost, true)
    end
    first, second = math.max(0, r.room), math.max(0, r.back)
  end
  told[#told + 1] = first < 0 and -1 or math.floor(first * 1000000 + 0.5)
  told[#told + 1] = math.ceil(second * 1000000)
  if action == 'lease' then told[#told + 1] = math.ceil(third * 1000000) end
end
told[#told + 1] = clock
return told
"""
)
"""ARGV: the time, for tests, else ""; what is done (take, peek, charge, refund, lease); nine terms
a key."""

ALIVE_KEY = b"gateway:alive"
ALIVE = Script(
    b"""
local time = redis.call('TIME')
local now = tonumber(time[1])
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('EXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
"""
)
"""Says that a gateway lives (its name, for how many seconds); answers how many do."""
