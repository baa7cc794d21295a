/* guest NAME[:COUNT]...: starts these faults, and ends when every actor sleeps where it should. */
#include "guest.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define ACTORS 8192
#define READY_SECONDS 120

enum where { STARTING, BLOCKS, GOT_ON };

static struct board {
	atomic_int started; /* faults whose function has returned */
	atomic_int expected; /* actors */
	atomic_int count;
	struct {
		_Atomic pid_t pid, tid;
		_Atomic enum where where;
	} actors[ACTORS];
} *board;

static __thread int self = -1;
static int threads; /* that this process has started */

struct start {
	char name[16];
	body *body;
	void *argument;
};

void die(const char *what)
{
	fprintf(stderr, "faultlab: not ready: guest: %s: %s\n", what, strerror(errno));
	_exit(1);
}

void *shared(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		die("mmap");
	return memory;
}

static void act(const struct start *start)
{
	self = atomic_fetch_add(&board->count, 1);
	if (self >= ACTORS)
		die("too many actors");
	prctl(PR_SET_NAME, start->name);
	board->actors[self].pid = getpid();
	board->actors[self].tid = gettid();
	start->body(start->argument);
	for (;;)
		pause();
}

static void *act_in_thread(void *argument)
{
	act(argument);
	return NULL;
}

static struct start *announce(const char *name, body *body, void *argument)
{
	struct start *start = calloc(1, sizeof(*start));

	snprintf(start->name, sizeof(start->name), "%s", name);
	start->body = body;
	start->argument = argument;
	atomic_fetch_add(&board->expected, 1);
	return start;
}

void actor_thread(const char *name, body *body, void *argument)
{
	pthread_attr_t attributes;
	pthread_t thread;

	threads++;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 128 * 1024);
	if ((errno = pthread_create(&thread, &attributes, act_in_thread,
				    announce(name, body, argument))))
		die("pthread_create");
}

void actor_process(const char *name, body *body, void *argument)
{
	struct start *start = announce(name, body, argument);

	if (CHECK(fork()) == 0)
		act(start);
}

void blocks_here(void)
{
	board->actors[self].where = BLOCKS;
}

void got_on(const char *what)
{
	board->actors[self].where = GOT_ON;
	fprintf(stderr, "faultlab: not ready: guest: got over %s: %s\n", what, strerror(errno));
	for (;;)
		pause();
}

void meet(atomic_int *place, int parties)
{
	atomic_fetch_add(place, 1);
	while (atomic_load(place) < parties)
		usleep(1000);
}

static char state_of(pid_t pid, pid_t tid)
{
	char path[64], line[256], *end;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	file = fopen(path, "r");
	if (!file)
		return 0;
	line[fread(line, 1, sizeof(line) - 1, file)] = 0;
	fclose(file);
	end = strrchr(line, ')');
	return end ? end[2] : 0;
}

static int in_place(int faults)
{
	int count = atomic_load(&board->count);

	if (atomic_load(&board->started) < faults || count < atomic_load(&board->expected))
		return 0;
	for (int i = 0; i < count; i++) {
		char state = state_of(board->actors[i].pid, board->actors[i].tid);

		if (board->actors[i].where != BLOCKS || (state != 'S' && state != 'D'))
			return 0;
	}
	return 1;
}

static const struct {
	const char *name;
	void (*start)(int);
} table[] = {
#define GUEST_ENTRY(name) { #name, guest_##name },
	GUEST_FAULTS(GUEST_ENTRY)
};

static void start_one(char *name)
{
	char *colon = strchr(name, ':');
	int count = colon ? atoi(colon + 1) : 0;

	if (colon)
		*colon = 0;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		if (strcmp(table[i].name, name))
			continue;
		if (CHECK(fork()) == 0) {
			prctl(PR_SET_NAME, name);
			table[i].start(count);
			/* Whoever has an end of a pipe could act: leave them to the actors. */
			if (!threads)
				closefrom(3);
			atomic_fetch_add(&board->started, 1);
			for (;;)
				pause();
		}
		return;
	}
	errno = EINVAL;
	die(name);
}

int main(int argc, char **argv)
{
	int quiet = 0;

	board = shared(sizeof(*board));
	for (int i = 1; i < argc; i++)
		start_one(argv[i]);
	for (int tries = 0; quiet < 5; tries++) {
		quiet = in_place(argc - 1) ? quiet + 1 : 0;
		if (tries > READY_SECONDS * 50) {
			for (int i = 0; i < board->count; i++)
				fprintf(stderr, "actor %d: where %d\n", board->actors[i].tid,
					board->actors[i].where);
			errno = ETIMEDOUT;
			die("actors");
		}
		usleep(20000);
	}
	return 0;
}
