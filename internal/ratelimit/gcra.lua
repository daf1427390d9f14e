-- Counts a request against limits by GCRA, in the order of KEYS, and stops at the first that is
-- exceeded. ARGV has, for each key, a period in microseconds and the requests in it. The reply has,
-- for each limit that was checked: whether the request is allowed, the remaining requests, the
-- microseconds until the quota is full, and those until a request is allowed.
--
-- A key holds when its quota is full, in microseconds since 2026, and expires then. The clock is
-- that of Redis. Rate.take has the same arithmetic.
local time = redis.call('TIME')
local now = (time[1] - 1767225600) * 1000000 + time[2]
local reply = {}
for i, key in ipairs(KEYS) do
  local period = tonumber(ARGV[2 * i - 1])
  local interval = period / tonumber(ARGV[2 * i])
  local tolerance = interval / 1000
  local full = tonumber(redis.call('GET', key) or '') or now
  full = math.min(math.max(full, now), now + period)
  local allowed = full + interval <= now + period + tolerance
  local retry = 0
  if allowed then
    full = full + interval
    redis.call('SET', key, string.format('%.3f', full), 'PX', math.max(1, math.ceil((full - now) / 1000)))
  else
    retry = math.ceil(full + interval - period - now)
  end
  reply[#reply + 1] = allowed and 1 or 0
  reply[#reply + 1] = math.floor((now + period - full + tolerance) / interval)
  reply[#reply + 1] = math.ceil(full - now)
  reply[#reply + 1] = retry
  if not allowed then
    break
  end
end
return reply
