-- What an endpoint was found to take under these parameters.
-- Parameters: $origin, $model, $parameters.
-- One row per finding, the last one: one or none.
select *
from probes
where origin = $origin and model = $model and parameters = $parameters
order by probed_at desc
limit 1
