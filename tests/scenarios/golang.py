"""Go: what waits is a goroutine, which no thread shows.  tests/programs/locks.go.

The runtime's threads wake up now and then, so nothing here comes to rest.
"""

from .model import Scenario

SCENARIOS = tuple(
    Scenario(
        f"go-{scene}",
        "locks.go",
        (scene,),
        "inconclusive",
        variants=("go", "go-stripped"),
        moving=True,
        notes="the report has to say that goroutines are not threads",
    )
    for scene in ("mutex", "rwmutex", "channels", "server")
)
