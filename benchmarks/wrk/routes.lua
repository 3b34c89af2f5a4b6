-- One request for each of a thousand routes, in an order that is neither theirs nor random.
local requests, at = {}, 0

init = function(args)
  for number = 0, 999 do
    requests[number + 1] = wrk.format("GET", "/service-" .. (number * 617 % 1000) .. "/items/1")
  end
end

request = function()
  at = at % 1000 + 1
  return requests[at]
end
