// SPDX-License-Identifier: GPL-2.0
/* A list of packets whose second one is damaged: its walk reads through a bad pointer. */
#include <linux/module.h>
#include <linux/slab.h>

struct lab_header {
	u16 kind, flags;
	u32 length;
};

struct lab_packet {
	struct lab_packet *next;
	u64 sequence;
	struct lab_header *header;
};

static noinline u32 lab_length(struct lab_packet *packet)
{
	return packet->header->length;
}

static noinline u32 lab_total(struct lab_packet *first)
{
	u32 total = 0;
	struct lab_packet *packet;

	for (packet = first; packet; packet = packet->next)
		total += lab_length(packet);
	return total;
}

static int __init laboops_init(void)
{
	struct lab_packet *packets = kcalloc(2, sizeof(*packets), GFP_KERNEL);
	struct lab_header *header = kzalloc(sizeof(*header), GFP_KERNEL);

	if (!packets || !header)
		return -ENOMEM;
	header->length = 40;
	packets[0].next = &packets[1];
	packets[0].header = header;
	packets[1].sequence = 1; /* and no header */
	pr_info("laboops: %u\n", lab_total(packets));
	return -EINVAL;
}

module_init(laboops_init);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A NULL pointer followed, for tests");
