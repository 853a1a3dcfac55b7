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
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local action = ARGV[2]
local LEEWAY = 1e-6

local function save(key, seconds, ...)
  local words = {...}
  for i, word in ipairs(words) do words[i] = string.format('%.17g', word) end
  redis.call('SET', key, table.concat(words, ' '), 'PX', math.ceil(math.max(0, seconds) * 1000) + 1000)
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
    if admitted and r.burst > 0 then
      local key = r.key .. ':burst'
      redis.call('RPUSH', key, string.format('%.17g', now))
      redis.call('LTRIM', key, -r.burst, -1)
      redis.call('PEXPIRE', key, 2000)
    end
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
}

local function forget(r, window)
  local first = redis.call('LINDEX', r.key, 0)
  while first and tonumber(first) <= now - window + LEEWAY do
    redis.call('LPOP', r.key)
    first = redis.call('LINDEX', r.key, 0)
  end
  return first
end

kinds.sliding_log = {
  load = function(r)
    local quota, window = saved(r.key .. ':limit')
    local first = forget(r, window or r.window)
    if first and quota and (quota ~= r.quota or window ~= r.window) then
      local times = redis.call('LRANGE', r.key, 0, -1)
      local count = math.floor(#times * r.quota / quota + 0.5)
      redis.call('DEL', r.key)
      for number = 0, count - 1 do
        local time = moved(tonumber(times[math.floor(number * #times / count) + 1]), window, r.window)
        redis.call('RPUSH', r.key, string.format('%.17g', time))
      end
      redis.call('PEXPIRE', r.key, math.ceil(r.window * 1000) + 1000)
      save(r.key .. ':limit', r.window, r.quota, r.window)
    end
    r.room = r.quota - redis.call('LLEN', r.key)
    local last = redis.call('LINDEX', r.key, -1)
    r.back = last and tonumber(last) + r.window - now or 0
  end,
  wait = function(r, cost)
    return tonumber(redis.call('LINDEX', r.key, math.max(0, cost - r.room - 1))) + r.window - now
  end,
  put = function(r, cost)
    for _ = 1, cost do redis.call('RPUSH', r.key, string.format('%.17g', now)) end
    for _ = 1, -cost do redis.call('RPOP', r.key) end
    redis.call('PEXPIRE', r.key, math.ceil(r.window * 1000) + 1000)
    save(r.key .. ':limit', r.window, r.quota, r.window)
    r.room, r.back = r.room - cost, r.window
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
    else
      redis.call('ZREM', r.key, r.a)
    end
    r.room = r.room - cost
  end,
}

local rules, refused = {}, false
for i, key in ipairs(KEYS) do
  local at = 2 + (i - 1) * 9
  local r = {
    key = key, kind = kinds[ARGV[at + 1]], quota = tonumber(ARGV[at + 2]), rate = tonumber(ARGV[at + 3]),
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
    -- Counts `cost` in any case, grants of the `flag` units wanted as many as there are, and says when there will be one more.
    local grant = math.max(0, math.min(r.flag, math.floor(r.room - r.cost + LEEWAY)))
    if grant + r.cost ~= 0 then r.kind.put(r, grant + r.cost, false) end
    first, second, third = grant, r.back, 0
    if r.room < 1 - LEEWAY then third = math.max(LEEWAY, r.kind.wait(r, 1)) end
    told[#told + 1] = math.floor(math.max(0, r.room) * 1000000 + 0.5)
  else
    if action == 'charge' then
      r.kind.put(r, r.cost, false)
    elseif action == 'take' and not refused then
      r.kind.put(r, r.cost, true)
    end
    first, second = math.max(0, r.room), math.max(0, r.back)
  end
  told[#told + 1] = first < 0 and -1 or math.floor(first * 1000000 + 0.5)
  told[#told + 1] = math.ceil(second * 1000000)
  if action == 'lease' then told[#told + 1] = math.ceil(third * 1000000) end
end
return told
"""
)
"""ARGV: the time, for tests, else ""; what is done (take, peek, charge, lease); nine terms a key."""

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
