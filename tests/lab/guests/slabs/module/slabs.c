// SPDX-License-Identifier: GPL-2.0
/*
 * Requests that lie side by side in a slab: what the task of one calls by a pointer concerns that
 * one only.  Requests on lists, or in tables and trees, of which others may end one, to which they
 * have no pointer yet.  And a spinlock that its owner sleeps with for a time.
 */
#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/hashtable.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/rbtree.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

struct request {
	struct list_head list;
	struct hlist_node hash;
	struct rb_node node;
	struct mutex busy;
	struct completion done;
	wait_queue_head_t idle;
	void (*end)(struct request *request);
	atomic_t place;
	bool ready;
	char payload[16];
} __aligned(64);

static struct kmem_cache *cache;

static void got_on(void)
{
	pr_emerg("faultlab: not ready: %s got on\n", current->comm);
}

static noinline void end_it(struct request *request)
{
	request->payload[0]++;
	complete(&request->done);
}

static struct request *new_request(void)
{
	struct request *request = kmem_cache_alloc(cache, GFP_KERNEL);

	INIT_LIST_HEAD(&request->list);
	mutex_init(&request->busy);
	init_completion(&request->done);
	init_waitqueue_head(&request->idle);
	request->end = end_it;
	return request;
}

static void meet(struct request *request, int parties)
{
	atomic_inc(&request->place);
	while (atomic_read(&request->place) < parties)
		msleep(1);
}

static int waits(void *argument)
{
	struct request *request = argument;

	mutex_lock(&request->busy);
	meet(request, 2);
	wait_for_completion(&request->done);
	got_on();
	return 0;
}

static int ends(void *argument)
{
	struct request *request = argument;

	meet(request, 2);
	mutex_lock(&request->busy);
	got_on();
	mutex_unlock(&request->busy);
	end_it(request);
	return 0;
}

/* It may end the request: what it will call is in the object. */
static int rests(void *argument)
{
	struct request *request = argument;

	wait_event(request->idle, READ_ONCE(request->ready));
	got_on();
	request->end(request);
	return 0;
}

static LIST_HEAD(polled);
static LIST_HEAD(expiring);

struct host {
	char settings[320];
	struct list_head requests;
};

static void end_those_on(struct list_head *list)
{
	struct request *request;

	list_for_each_entry(request, list, list)
		if (READ_ONCE(request->ready))
			complete(&request->done);
}

static int polls(void *unused)
{
	for (;;) {
		ssleep(100000);
		end_those_on(&polled);
	}
	return 0;
}

static int polls_host(void *argument)
{
	struct host *host = argument;

	for (;;) {
		ssleep(100000);
		end_those_on(&host->requests);
	}
	return 0;
}

static void expire(struct work_struct *work)
{
	end_those_on(&expiring);
}

static DECLARE_DELAYED_WORK(expiry, expire);

/* The same by other ways to find one. */
#define POLLER(name, looks)			\
	static int name(void *unused)		\
	{					\
		struct request *request;	\
						\
		for (;;) {			\
			ssleep(100000);		\
			looks;			\
		}				\
		return 0;			\
	}
#define END(request) do { if (READ_ONCE((request)->ready)) complete(&(request)->done); } while (0)

static struct request *slots[8];
static noinline struct request *in_slot(unsigned int number)
{
	return READ_ONCE(slots[number & 7]);
}
static unsigned int turn;
POLLER(polls_slots, if ((request = in_slot(turn++))) END(request))

static DEFINE_HASHTABLE(hashed, 4);
POLLER(polls_hash, hash_for_each_possible(hashed, request, hash, turn) END(request))

static DEFINE_XARRAY(stored);
POLLER(polls_xarray, if ((request = xa_load(&stored, turn))) END(request))

static struct rb_root tree = RB_ROOT;
POLLER(polls_tree, {
	struct rb_node *node;

	for (node = rb_first(&tree); node; node = rb_next(node)) {
		request = rb_entry(node, struct request, node);
		END(request);
	}
})

static DEFINE_PER_CPU(struct request *, of_cpu);
POLLER(polls_cpu, if ((request = this_cpu_read(of_cpu))) END(request))

/* Rests until somebody has something to do for it. */
static struct request *latest;
static bool wanted;
static DECLARE_WAIT_QUEUE_HEAD(service);

static int serves(void *unused)
{
	for (;;) {
		wait_event_idle(service, READ_ONCE(wanted));
		complete(&latest->done);
	}
	return 0;
}

static void start(const char *prefix, const char *name, int (*body)(void *), void *argument)
{
	struct task_struct *task = kthread_run(body, argument, "%s-%s", prefix, name);

	if (IS_ERR(task))
		pr_emerg("faultlab: not ready: no kthread\n");
}

static DEFINE_SPINLOCK(nap_lock);
static atomic_t napping;

static int naps(void *unused)
{
	spin_lock(&nap_lock);
	atomic_inc(&napping);
	ssleep(100000);
	spin_unlock(&nap_lock);
	return 0;
}

static int spins(void *unused)
{
	while (!atomic_read(&napping))
		cpu_relax();
	spin_lock(&nap_lock);
	got_on();
	spin_unlock(&nap_lock);
	return 0;
}

static void start_on(int cpu, const char *name, int (*body)(void *))
{
	struct task_struct *task = kthread_create(body, NULL, "%s", name);

	if (IS_ERR(task)) {
		pr_emerg("faultlab: not ready: no kthread\n");
		return;
	}
	kthread_bind(task, cpu);
	wake_up_process(task);
}

/* A cache with a constructor is not merged with others: all requests lie in one slab. */
static void constructed(void *object)
{
	memset(object, 0, sizeof(struct request));
}

static void start_on_list(const char *prefix, struct list_head *list)
{
	struct request *request = new_request();

	list_add(&request->list, list);
	start(prefix, "waits", waits, request);
	start(prefix, "ends", ends, request);
}

static struct request *start_found(const char *prefix, int (*polls)(void *))
{
	struct request *request = new_request();

	start(prefix, "waits", waits, request);
	start(prefix, "ends", ends, request);
	start(prefix, "polls", polls, NULL);
	return request;
}

static void start_all_found(void)
{
	struct request *above = new_request();
	struct rb_node *root = &above->node;
	struct request *request = start_found("st", polls_tree);
	int cpu;

	rb_link_node(root, NULL, &tree.rb_node);
	rb_insert_color(root, &tree);
	rb_link_node(&request->node, root, &root->rb_left);
	rb_insert_color(&request->node, &tree);
	slots[5] = start_found("sa", polls_slots);
	hash_add(hashed, &start_found("sk", polls_hash)->hash, 5);
	xa_store(&stored, 77, start_found("sx", polls_xarray), GFP_KERNEL);
	request = start_found("sc", polls_cpu);
	for_each_possible_cpu(cpu)
		per_cpu(of_cpu, cpu) = request;
	latest = start_found("si", serves);
}

static int __init labslabs_init(void)
{
	struct request *one, *two, *three;
	struct host *host = kzalloc(sizeof(*host), GFP_KERNEL);

	cache = kmem_cache_create("lab_request", sizeof(struct request), 0, 0, constructed);
	if (!cache || !host)
		return -ENOMEM;
	INIT_LIST_HEAD(&host->requests);
	one = new_request();
	two = new_request();
	three = new_request();
	start("sn", "waits", waits, one);
	start("sn", "ends", ends, one);
	start("sb", "rests", rests, two); /* beside both of the others */
	start("so", "waits", waits, three);
	start("so", "ends", ends, three);
	start("so", "rests", rests, three);
	start_on_list("sp", &polled);
	start("sp", "polls", polls, NULL);
	start_on_list("sh", &host->requests);
	start("sh", "polls", polls_host, host);
	start_all_found();
	start_on_list("se", &expiring);
	schedule_delayed_work(&expiry, 10000 * HZ);
	start_on(1, "nap-naps", naps);
	start_on(2, "nap-spins", spins);
	return 0;
}

module_init(labslabs_init);
MODULE_LICENSE("GPL");
