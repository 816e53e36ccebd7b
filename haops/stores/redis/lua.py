"""The scripts that digest a server's keys inside the server (`digest.py` says what a digest is).

Lua's numbers are doubles: a digest is carried as two halves of 32 bits, whose sums stay exact
up to 2**53. One run takes a slice of the keys only, for nothing else is served meanwhile. Of the
forms that were tried, SCAN and MGET of some 50 keys at a time cost the server least (some 3 us a
key of 64 bytes, of which SHA-1 is 0.8); a GET, a TYPE or a TTL for each key would double that.
"""

from __future__ import annotations

from typing import Final

# A value of more elements is digested in slices of its own.
LARGE: Final = 5000

_HEAD: Final = """
local call, sha, sub, ton, pack = redis.call, redis.sha1hex, string.sub, tonumber, struct.pack
local HALF = 4294967296
local LARGE = %d
local function halves(data)
  local hex = sha(data)
  return ton(sub(hex, 1, 8), 16), ton(sub(hex, 9, 16), 16)
end
local function wide(number)
  local low = number %% HALF
  return pack('>I4I4', (number - low) / HALF, low)
end
local function sized(data) return pack('>I4', #data) .. data end
local function folded(high, low)
  local rest = low %% HALF
  return pack('>I4I4', (high + (low - rest) / HALF) %% HALF, rest)
end
local high, low, count
local function add(data)
  local a, b = halves(data)
  high = (high + a) %% HALF
  low = low + b
  count = count + 1
end
local function score(text)
  local number = ton(text)
  if number == 0 then number = 0 end
  return pack('>d', number)
end
local function fields(key, flat, expiring)
  local times
  if expiring and #flat > 0 then
    local names = {}
    for i = 1, #flat, 2 do names[#names + 1] = flat[i] end
    times = call('HPEXPIRETIME', key, 'FIELDS', #names, unpack(names))
  end
  for i = 1, #flat, 2 do
    local time = times and times[(i + 1) / 2] or 0
    if time ~= -2 then add(sized(flat[i]) .. flat[i + 1] .. wide(time > 0 and time or 0)) end
  end
end
local function entries(found)
  for _, entry in ipairs(found) do
    local parts = {'e', sized(entry[1])}
    for _, part in ipairs(entry[2]) do parts[#parts + 1] = sized(part) end
    add(table.concat(parts))
  end
end
local function groups(key)
  local told = call('XINFO', 'STREAM', key)
  for i = 1, #told, 2 do
    if told[i] == 'last-generated-id' then add('l' .. told[i + 1]) end
  end
  for _, group in ipairs(call('XINFO', 'GROUPS', key)) do
    local has = {}
    for i = 1, #group, 2 do has[group[i]] = group[i + 1] end
    add('g' .. pack('>I4', has['pending']) .. sized(has['last-delivered-id']) .. has['name'])
  end
end
local SIZES = {list = 'LLEN', set = 'SCARD', zset = 'ZCARD', hash = 'HLEN', stream = 'XLEN'}
local LETTERS = {string = 's', list = 'l', set = 'e', zset = 'z', hash = 'h', stream = 'x'}
-- The body of a value, or nil where it is too large for one run.
local function body(kind, key, expiring)
  if not SIZES[kind] then return '' end
  if call(SIZES[kind], key) > LARGE then return nil end
  high, low, count = 0, 0, 0
  if kind == 'list' then
    for i, value in ipairs(call('LRANGE', key, 0, -1)) do add(pack('>I4', i - 1) .. value) end
  elseif kind == 'set' then
    for _, member in ipairs(call('SMEMBERS', key)) do add(member) end
  elseif kind == 'zset' then
    local flat = call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for i = 1, #flat, 2 do add(score(flat[i + 1]) .. flat[i]) end
  elseif kind == 'hash' then
    fields(key, call('HGETALL', key), expiring)
  else
    entries(call('XRANGE', key, '-', '+'))
    groups(key)
  end
  return folded(high, low) .. pack('>I4', count)
end
"""

# ARGV: cursor, keys wanted, keys at a time, pattern or '', '1' if keys expire, '1' if fields do,
# the database, and what the form of output needs.
# Answers: cursor, keys, bytes of strings, output, names of large values.
_WALK: Final = """
local cursor, left, step, match = ARGV[1], ton(ARGV[2]), ARGV[3], ARGV[4]
local expire, subexpire, db = ARGV[5] == '1', ARGV[6] == '1', string.char(ton(ARGV[7]))
local seen, size, large = 0, 0, {}
local function trailer(kind, time, key)
  return wide(time) .. kind .. db .. pack('>I4', #key)
end
local plain = setmetatable({}, {__index = function(made, length)
  local text = wide(0) .. 's' .. db .. pack('>I4', length)
  made[length] = text
  return text
end})
%(before)s
repeat
  local page
  if match == '' then page = call('SCAN', cursor, 'COUNT', step)
  else page = call('SCAN', cursor, 'MATCH', match, 'COUNT', step) end
  cursor = page[1]
  local keys = page[2]
  local n = #keys
  left = left - (match == '' and n or step)
  if n > 0 then
    local values = call('MGET', unpack(keys))
    for i = 1, n do
      local key, value = keys[i], values[i]
      local data
      if value then
        size = size + #value
        if expire then
          local time = call('PEXPIRETIME', key)
          data = value .. key .. (time > 0 and trailer('s', time, key) or plain[#key])
        else
          data = value .. key .. plain[#key]
        end
      else
        local kind = call('TYPE', key)['ok']
        if kind ~= 'none' then
          local time = expire and call('PEXPIRETIME', key) or 0
          local text = body(kind, key, subexpire)
          if text then
            data = text .. key .. trailer(LETTERS[kind] or 'm', time > 0 and time or 0, key)
            left = left - count / 8
          else
            large[#large + 1] = key
          end
        end
      end
      if data then
        seen = seen + 1
        local hex = sha(data)
        %(each)s
      end
    end
  end
  if size > 1048576 then break end
until left <= 0 or cursor == '0'
%(after)s
return {cursor, seen, size, output, large}
"""

# A digit's code leads to its weight in a table for each place: no string and no call is needed for
# it, as `tonumber` would need. In a bucket the first byte of all digests is the same, so that only 24 bits
# of the upper half are added up, and above them, from 2**38 on, the keys are counted. This is exact
# for 16,384 keys a run; there are less, as `unpack` takes 8000 of one SCAN at most.
_SUMS: Final = {
    "before": """
local byte = string.byte
local function weights(weight, more)
  local made = {}
  for code = 1, 102 do made[code] = 0 end
  for digit = 0, 9 do made[48 + digit] = digit * weight + more end
  for digit = 10, 15 do made[87 + digit] = digit * weight + more end
  return made
end
local ONE = 274877906944
local u1, u2, u3, u4 = weights(16, 1), weights(1, 0), weights(1048576, ONE), weights(65536, 0)
local u5, u6, u7, u8 = weights(4096, 0), weights(256, 0), weights(16, 0), weights(1, 0)
local l1, l2, l3 = weights(268435456, 0), weights(16777216, 0), weights(1048576, 0)
local highs, lows = {}, {}
for i = 1, 256 do highs[i] = 0 lows[i] = 0 end
""",
    "each": """
        local c1, c2, c3, c4, c5, c6, c7, c8, d1, d2, d3, d4, d5, d6, d7, d8 = byte(hex, 1, 16)
        local at = u1[c1] + u2[c2]
        highs[at] = highs[at] + u3[c3] + u4[c4] + u5[c5] + u6[c6] + u7[c7] + u8[c8]
        lows[at] = lows[at] + l1[d1] + l2[d2] + l3[d3] + u4[d4] + u5[d5] + u6[d6] + u7[d7] + u8[d8]
""",
    "after": """
local numbers = {}
for i = 1, 256 do
  local rest, rest_low = highs[i] % ONE, lows[i] % HALF
  local number = (highs[i] - rest) / ONE
  numbers[3 * i - 2] = number
  numbers[3 * i - 1] = (number * (i - 1) * 16777216 + rest + (lows[i] - rest_low) / HALF) % HALF
  numbers[3 * i] = rest_low
end
local output = pack('>' .. string.rep('I2I4I4', 256), unpack(numbers))
""",
}
# ARGV[8]: for each bucket a character, '1' where its digests are wanted. With each digest goes the tag of its
# key (`digest.tag`), which stays when the record changes.
_LIST: Final = {
    "before": "local output, wanted = {}, ARGV[8]",
    "each": """
        local at = ton(sub(hex, 1, 2), 16) + 1
        if sub(wanted, at, at) == '1' then
          local tag = ton(sub(sha(key .. db), 1, 8), 16)
          output[#output + 1] = pack('>I4I4I4', ton(sub(hex, 1, 8), 16), ton(sub(hex, 9, 16), 16), tag)
        end
""",
    "after": "output = table.concat(output)",
}


def _made(form: dict[str, str]) -> str:
    # `count` is the last body's; a module's value has none.
    return (
        _HEAD % LARGE
        + "count = 0\n"
        + _WALK.replace("%(before)s", form["before"])
        .replace("%(each)s", form["each"])
        .replace("%(after)s", form["after"])
    )


SUMS: Final = _made(_SUMS)
LIST: Final = _made(_LIST)

# ARGV and answer as above. ARGV[8]: a character for each beginning of tags (12 bits), '1' where the keys are
# wanted; the output is these keys, each behind its tag.
NAMES: Final = (
    _HEAD % LARGE
    + """
local cursor, left, step, match = ARGV[1], ton(ARGV[2]), ARGV[3], ARGV[4]
local db, wanted = string.char(ton(ARGV[7])), ARGV[8]
local seen, output = 0, {}
repeat
  local page
  if match == '' then page = call('SCAN', cursor, 'COUNT', step)
  else page = call('SCAN', cursor, 'MATCH', match, 'COUNT', step) end
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    local hex = sha(key .. db)
    local at = ton(sub(hex, 1, 3), 16) + 1
    if sub(wanted, at, at) == '1' then output[#output + 1] = pack('>I4', ton(sub(hex, 1, 8), 16)) .. key end
  end
  seen = seen + #page[2]
  left = left - (match == '' and #page[2] or step)
until left <= 0 or cursor == '0'
return {cursor, seen, 0, output, {}}
"""
)

# KEYS: some keys. Answers for each: type, expiry, body or nil where it is large, a preview of a string.
DESCRIBE: Final = (
    _HEAD % LARGE
    + """
local answer = {}
for i, key in ipairs(KEYS) do
  local kind = call('TYPE', key)['ok']
  local text, preview = false, ''
  if kind == 'string' then
    local value = call('GET', key) or ''
    text, preview = sha(value), sub(value, 1, 41)
  elseif kind ~= 'none' then
    local made = body(kind, key, ARGV[1] == '1')
    if made then text, preview = sha(made), made end
  end
  answer[i] = {kind, call('PEXPIRETIME', key), text, preview}
end
return answer
"""
)

# KEYS[1]: a large value. ARGV: type, cursor, elements wanted, '1' if fields expire.
# Answers: cursor ('' at the end), the sum of the digests, how many.
SLICE: Final = (
    _HEAD % LARGE
    + """
local key, kind, cursor, step = KEYS[1], ARGV[1], ARGV[2], ton(ARGV[3])
high, low, count = 0, 0, 0
local over = false
if kind == 'list' then
  local start = ton(cursor)
  local found = call('LRANGE', key, start, start + step - 1)
  for i, value in ipairs(found) do add(pack('>I4', start + i - 1) .. value) end
  cursor, over = string.format('%.0f', start + step), #found < step
elseif kind == 'stream' then
  local found = call('XRANGE', key, cursor == '0' and '-' or '(' .. cursor, '+', 'COUNT', step)
  entries(found)
  over = #found < step
  if over then groups(key) else cursor = found[#found][1] end
else
  local page
  if kind == 'set' then
    page = call('SSCAN', key, cursor, 'COUNT', step)
    for _, member in ipairs(page[2]) do add(member) end
  elseif kind == 'zset' then
    page = call('ZSCAN', key, cursor, 'COUNT', step)
    for i = 1, #page[2], 2 do add(score(page[2][i + 1]) .. page[2][i]) end
  else
    page = call('HSCAN', key, cursor, 'COUNT', step)
    fields(key, page[2], ARGV[4] == '1')
  end
  cursor = page[1]
  over = cursor == '0'
end
return {over and '' or cursor, folded(high, low), count}
"""
)
