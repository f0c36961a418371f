/* SPDX-License-Identifier: BSD-3-Clause */
/* The adapter's configuration steps, in both versions, and each way to get them wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_blk.h>

#include "adapter_world.h"

#define NEEDED (1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_ACCESS_PLATFORM)

static void the_header_of_version_2_holds_the_servers_fields_and_leaves_the_guests(void **state)
{
	struct aw *w = *state;
	struct vio_dev_header_v2 *h = (void *)(w->gmem + AW_HEADER);

	aw_guest(w, 2);
	assert_int_equal(aw_probe(w), VIO_ST_OK);
	assert_int_equal(h->type, VIRTIO_ID_BLOCK);
	assert_int_equal(h->device_status, 0xee);
	assert_int_equal(vio_from_be16(h->num_vqs), AW_QUEUES);
	assert_int_equal(vio_from_be16(h->vqs_size), AW_SIZE);
	assert_int_equal(vio_from_be64(h->device_features) & NEEDED, NEEDED);
	assert_int_equal(vio_from_be64(h->guest_features), 0xeeeeeeeeeeeeeeeeull);
	assert_int_equal(h->ring_levels, 7);
	assert_int_equal(h->payload_levels, 0xf);
	assert_int_equal(h->notify_levels, 7);
	assert_int_equal(h->ring, 0xee);
}

static void the_header_of_version_1_is_the_slides(void **state)
{
	struct aw *w = *state;
	struct vio_dev_header_v1 *h = (void *)(w->gmem + AW_HEADER);
	struct virtio_blk_config *c = (void *)(w->gmem + AW_CONFIG);

	aw_guest(w, 1);
	assert_int_equal(aw_probe(w), VIO_ST_OK);
	assert_int_equal(w->fsm.version, 1);
	assert_int_equal(h->type, VIRTIO_ID_BLOCK);
	assert_int_equal(h->num_vqs, AW_QUEUES);
	assert_int_equal(1u << h->vqs_size, AW_SIZE);
	assert_int_equal(vio_from_be32(h->guest_features), 0xeeeeeeeeu);
	assert_int_equal(h->device_status, 0xee);
	assert_true(h->config_len >= offsetof(struct virtio_blk_config, num_queues) + 2);
	assert_int_equal(vio_le64(c->capacity) * 512, sizeof(w->b.disk));
}

static void every_level_moves_a_sector(void **state)
{
	struct aw *w = *state;
	static const enum vio_payload payload[] = {VIO_PAYLOAD_RDMA, VIO_PAYLOAD_BOUNCE,
						   VIO_PAYLOAD_DIRECT, VIO_PAYLOAD_COPYBREAK};

	aw_guest(w, 2);
	for (unsigned i = 0; i < VIO_N_RING * VIO_ARRAY_SIZE(payload) * VIO_N_NOTIFY; i++) {
		enum vio_ring_access ring = i % VIO_N_RING;
		enum vio_notification notify = i / VIO_N_RING % VIO_N_NOTIFY;
		enum vio_payload p = payload[i / VIO_N_RING / VIO_N_NOTIFY];

		memset(w->gmem + AW_BUF, 0, AW_BUFLEN);
		aw_bring_up(w, ring, p, notify);
		aw_request(w, 0);
		aw_run(w);
		assert_int_equal(aw_used(w, 0), 1);
		assert_memory_equal(w->gmem + AW_BUF + 0x200, w->b.disk, 512);
		assert_int_equal(w->gmem[AW_BUF + 16], VIRTIO_BLK_S_OK);
		assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
		assert_int_equal(w->b.queues_open, 0);
		for (unsigned k = 0; k < 3; k++) {
			if (w->cookie[k])
				assert_int_equal(
					h_rescind_logical(w->gv, RESCIND_NORMAL, w->cookie[k]),
					H_SUCCESS);
			w->cookie[k] = 0;
		}
	}
}

static void version_1_works_in_the_copy_design(void **state)
{
	struct aw *w = *state;
	struct vio_adapter_info info;

	aw_guest(w, 1);
	assert_int_equal(aw_probe(w), VIO_ST_OK);
	aw_features(w, 0, 0, 0, 0);
	aw_queue(w, 0);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_DRIVER_OK}), VIO_ST_OK);
	vio_adapter_get_info(w->a, &info);
	assert_int_equal(info.version, 1);
	assert_int_equal(info.state, VIO_S_RUNNING);
	assert_int_equal(info.arm.ring, VIO_RING_COPY);
	assert_int_equal(info.arm.payload, VIO_PAYLOAD_RDMA);
	assert_int_equal(info.arm.notify, VIO_NOTIFY_CRQ);
	aw_request(w, 0);
	aw_run(w);
	assert_int_equal(aw_used(w, 0), 1);
	assert_int_equal(w->used_messages, 1);
}

static void a_new_guest_with_an_old_server_agrees_on_version_1(void **state)
{
	struct aw *w = *state;

	aw_server_gone(w);
	aw_server(w, 1, 7, 0xf);
	aw_guest(w, 2);
	assert_int_equal(aw_probe(w), VIO_ST_OK);
	assert_int_equal(w->fsm.version, 1);
	aw_features(w, 0, 0, 0, 0);
	aw_queue(w, 0);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_DRIVER_OK}), VIO_ST_OK);
}

static void version_1_is_refused_by_a_server_without_the_copy_levels(void **state)
{
	struct aw *w = *state;

	aw_server_gone(w);
	aw_server(w, 2, 1u << VIO_RING_DIRECT, 0xf);
	aw_guest(w, 1);
	assert_int_equal(aw_probe(w), VIO_ST_OK);
	aw_features(w, 0, 0, 0, 0);
	aw_queue(w, 0);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_DRIVER_OK}), VIO_ST_LEVELS);
}

static void features_are_refused(struct aw *w, uint64_t f, enum vio_payload p, uint8_t why)
{
	aw_guest(w, 2);
	assert_int_equal(aw_probe(w), VIO_ST_OK);
	assert_int_equal(aw_features(w, f, VIO_RING_COPY, p, VIO_NOTIFY_CRQ), why);
	/* And the guest may begin again. */
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
	assert_int_equal(aw_probe(w), VIO_ST_OK);
}

static void features_that_are_not_offered_are_refused(void **state)
{
	features_are_refused(*state, NEEDED | 1ull << 60, VIO_PAYLOAD_RDMA, VIO_ST_FEATURES);
}

static void version_2_without_access_platform_is_refused(void **state)
{
	features_are_refused(*state, 1ull << VIRTIO_F_VERSION_1, VIO_PAYLOAD_RDMA, VIO_ST_FEATURES);
}

static void version_2_without_version_1_feature_is_refused(void **state)
{
	features_are_refused(*state, 1ull << VIRTIO_F_ACCESS_PLATFORM, VIO_PAYLOAD_RDMA,
			     VIO_ST_FEATURES);
}

static void a_level_that_is_not_offered_is_refused(void **state)
{
	features_are_refused(*state, NEEDED, VIO_PAYLOAD_UNCHECKED, VIO_ST_LEVELS);
}

static void a_level_that_does_not_exist_is_refused(void **state)
{
	features_are_refused(*state, NEEDED, 200, VIO_ST_LEVELS);
}

static void choices_changed_after_features_ok_are_refused(void **state)
{
	struct aw *w = *state;
	struct vio_dev_header_v2 *h = (void *)(w->gmem + AW_HEADER);

	for (unsigned what = 0; what < 2; what++) {
		aw_guest(w, 2);
		assert_int_equal(aw_probe(w), VIO_ST_OK);
		assert_int_equal(
			aw_features(w, NEEDED, VIO_RING_COPY, VIO_PAYLOAD_RDMA, VIO_NOTIFY_CRQ),
			VIO_ST_OK);
		aw_queue(w, 0);
		if (what == 0)
			h->guest_features = vio_to_be64(NEEDED | 1ull << VIRTIO_RING_F_EVENT_IDX);
		else
			h->notify = VIO_NOTIFY_POLL;
		assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_DRIVER_OK}),
				 what == 0 ? VIO_ST_FEATURES : VIO_ST_LEVELS);
		assert_int_equal(w->b.queues_open, 0);
		assert_int_equal(h_free_crq(w->gv, w->gu->unit), H_SUCCESS);
		aw_run(w);
	}
}

static void a_header_that_is_not_mapped_is_refused(void **state)
{
	struct aw *w = *state;

	aw_guest(w, 2);
	assert_int_equal(h_put_tce(w->gv, w->gu->liobn, aw_at(w, AW_HEADER), 0), H_SUCCESS);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_PROBE,
						     .arg = aw_at(w, AW_HEADER).v,
						     .arg16 = 64}),
			 VIO_ST_NO_DMA);
	assert_true(aw_said(w, "guest0: PROBE refused"));
}

static void a_header_that_is_read_only_is_refused(void **state)
{
	struct aw *w = *state;

	aw_guest(w, 2);
	assert_int_equal(h_put_tce(w->gv, w->gu->liobn, aw_at(w, AW_HEADER), AW_HEADER | TCE_READ),
			 H_SUCCESS);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_PROBE,
						     .arg = aw_at(w, AW_HEADER).v,
						     .arg16 = 64}),
			 VIO_ST_NO_DMA);
}

static void a_config_space_that_is_too_small_is_refused(void **state)
{
	struct aw *w = *state;

	aw_guest(w, 2);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_PROBE,
						     .arg = aw_at(w, AW_HEADER).v,
						     .arg16 = 64}),
			 VIO_ST_OK);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_ACKNOWLEDGE,
						     .arg = aw_at(w, AW_CONFIG).v,
						     .arg16 = 8}),
			 VIO_ST_BAD_MESSAGE);
}

/* A QUEUE message has no answer: what is wrong with it stops the device. */
static void bad_queue_part(struct aw *w, struct vio_msg m)
{
	aw_guest(w, 2);
	assert_int_equal(aw_probe(w), VIO_ST_OK);
	assert_int_equal(aw_features(w, NEEDED, VIO_RING_COPY, VIO_PAYLOAD_RDMA, VIO_NOTIFY_CRQ),
			 VIO_ST_OK);
	m.op = VIO_OP_QUEUE;
	assert_int_equal(aw_step(w, m), VIO_ST_QUEUE);
	assert_int_equal(w->last.op, VIO_OP_NEEDS_RESET);
	assert_int_equal(w->fsm.state, VIO_G_BROKEN);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
}

static void a_queue_number_that_is_not_offered_needs_a_reset(void **state)
{
	bad_queue_part(*state, (struct vio_msg){.arg16 = AW_QUEUES, .arg = 0x80001000});
}

static void a_misaligned_descriptor_table_needs_a_reset(void **state)
{
	bad_queue_part(*state, (struct vio_msg){.arg8 = VIO_QUEUE_DESC, .arg = 0x80001008});
}

static void a_misaligned_used_ring_needs_a_reset(void **state)
{
	bad_queue_part(*state, (struct vio_msg){.arg8 = VIO_QUEUE_USED, .arg = 0x80001002});
}

static void a_queue_larger_than_offered_needs_a_reset(void **state)
{
	bad_queue_part(*state, (struct vio_msg){.arg8 = VIO_QUEUE_SIZE, .arg = 2 * AW_SIZE});
}

static void a_queue_size_that_is_no_power_of_two_needs_a_reset(void **state)
{
	bad_queue_part(*state, (struct vio_msg){.arg8 = VIO_QUEUE_SIZE, .arg = 12});
}

static void driver_ok_refused(struct aw *w, enum vio_ring_access ring, bool queue, uint8_t why)
{
	assert_int_equal(aw_probe(w), VIO_ST_OK);
	assert_int_equal(aw_features(w, NEEDED, ring, VIO_PAYLOAD_RDMA, VIO_NOTIFY_CRQ), VIO_ST_OK);
	if (queue)
		aw_queue(w, 0);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_DRIVER_OK}), why);
	assert_int_equal(w->b.queues_open, 0);
	assert_null(w->polled[0]);
}

static void driver_ok_without_a_queue_is_refused(void **state)
{
	struct aw *w = *state;

	aw_guest(w, 2);
	driver_ok_refused(w, VIO_RING_COPY, false, VIO_ST_QUEUE);
}

static void rings_in_place_without_a_window_are_refused(void **state)
{
	struct aw *w = *state;

	aw_guest(w, 2);
	driver_ok_refused(w, VIO_RING_DIRECT, true, VIO_ST_QUEUE);
	assert_true(aw_said(w, "descriptor table"));
}

static void half_a_queue_is_refused(void **state)
{
	struct aw *w = *state;

	aw_guest(w, 2);
	assert_int_equal(aw_probe(w), VIO_ST_OK);
	assert_int_equal(aw_features(w, NEEDED, VIO_RING_COPY, VIO_PAYLOAD_RDMA, VIO_NOTIFY_CRQ),
			 VIO_ST_OK);
	aw_step(w, (struct vio_msg){.op = VIO_OP_QUEUE, .arg = aw_at(w, AW_DESC).v});
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_DRIVER_OK}), VIO_ST_QUEUE);
}

static void a_ring_that_runs_out_of_the_dma_window_is_refused(void **state)
{
	struct aw *w = *state;
	uint64_t end = w->gu->window.v + w->gu->window_bytes;

	aw_guest(w, 2);
	assert_int_equal(aw_probe(w), VIO_ST_OK);
	assert_int_equal(aw_features(w, NEEDED, VIO_RING_COPY, VIO_PAYLOAD_RDMA, VIO_NOTIFY_CRQ),
			 VIO_ST_OK);
	aw_queue(w, 0);
	aw_step(w, (struct vio_msg){.op = VIO_OP_QUEUE, .arg8 = VIO_QUEUE_DESC, .arg = end - 16});
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_DRIVER_OK}), VIO_ST_QUEUE);
}

static void a_disk_that_opens_no_queue_refuses_driver_ok_and_leaves_nothing(void **state)
{
	struct aw *w = *state;

	w->b.fail_open = true;
	aw_guest(w, 2);
	driver_ok_refused(w, VIO_RING_COPY, true, VIO_ST_STORE);
	assert_true(w->last.arg == ENOMEM); /* the guest learns the reason */
	assert_true(aw_said(w, "the disk opens no queue"));
}

static void too_little_server_memory_refuses_driver_ok(void **state)
{
	struct aw *w = *state;

	/* What is left for bounce buffers is less than one request. */
	aw_server_gone(w);
	w->cfg.mem_len = 64 << 10;
	aw_server(w, 2, 7, 0xf);
	aw_guest(w, 2);
	driver_ok_refused(w, VIO_RING_COPY, true, VIO_ST_QUEUE);
	assert_true(aw_said(w, "server memory"));
}

static uint8_t set(struct aw *w, uint16_t off, uint8_t len, uint64_t value)
{
	return aw_step(
		w,
		(struct vio_msg){.op = VIO_OP_CONFIG_SET, .arg16 = off, .arg8 = len, .arg = value});
}

static void a_driver_writes_the_fields_that_are_its_and_no_others(void **state)
{
	const uint16_t at = offsetof(struct virtio_blk_config, wce);
	const uint64_t f = 1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_CONFIG_WCE;
	struct aw *w = *state;
	const uint8_t *wce = w->gmem + AW_CONFIG + at;

	w->b.be.can_flush = true;
	aw_server_gone(w);
	aw_server(w, 2, 7, 0xf);
	aw_guest(w, 2);
	assert_int_equal(aw_probe(w), VIO_ST_OK);
	assert_int_equal(*wce, 1);
	assert_int_equal(
		aw_features(w, NEEDED | f, VIO_RING_COPY, VIO_PAYLOAD_RDMA, VIO_NOTIFY_CRQ),
		VIO_ST_OK);
	assert_int_equal(set(w, at, 1, 0), VIO_ST_OK);
	assert_int_equal(*wce, 0); /* the driver reads what it wrote */
	assert_true(w->b.be.write_through);
	assert_int_equal(set(w, at, 1, 77), VIO_ST_BAD_MESSAGE);
	assert_int_equal(set(w, at, 8, 1), VIO_ST_BAD_MESSAGE);
	assert_int_equal(set(w, 0, 8, 1), VIO_ST_BAD_MESSAGE);
	assert_int_equal(set(w, VIO_MAX_CONFIG - 1, 8, 1), VIO_ST_BAD_MESSAGE);
	assert_int_equal(set(w, at, 1, 0x100), VIO_ST_BAD_MESSAGE);
	assert_int_equal(set(w, 0xffff, 200, 0), VIO_ST_BAD_MESSAGE);
	assert_int_equal(set(w, at, 0, 0), VIO_ST_BAD_MESSAGE);
	assert_int_equal(*wce, 0);
	aw_queue(w, 0);
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_DRIVER_OK}), VIO_ST_OK);
	assert_true(w->b.be.write_through); /* what it wrote before DRIVER_OK counts */
	assert_int_equal(set(w, at, 1, 1), VIO_ST_OK);
	assert_false(w->b.be.write_through);
	assert_int_equal(set(w, at, 1, 0), VIO_ST_OK);
	/* A new session knows nothing of it. */
	assert_int_equal(aw_step(w, (struct vio_msg){.op = VIO_OP_RESET}), VIO_ST_OK);
	assert_int_equal(aw_probe(w), VIO_ST_OK);
	assert_int_equal(*wce, 1);
}

static void a_driver_without_flush_finds_the_cache_off(void **state)
{
	struct aw *w = *state;

	w->b.be.can_flush = true;
	aw_server_gone(w);
	aw_server(w, 2, 7, 0xf);
	aw_guest(w, 2);
	assert_int_equal(aw_probe(w), VIO_ST_OK);
	assert_int_equal(aw_features(w, NEEDED | 1ull << VIRTIO_BLK_F_CONFIG_WCE, VIO_RING_COPY,
				     VIO_PAYLOAD_RDMA, VIO_NOTIFY_CRQ),
			 VIO_ST_OK);
	assert_int_equal(w->gmem[AW_CONFIG + offsetof(struct virtio_blk_config, wce)], 0);
	assert_int_equal(set(w, offsetof(struct virtio_blk_config, wce), 1, 1), VIO_ST_BAD_MESSAGE);
}

#define T(f) cmocka_unit_test_setup_teardown(f, aw_setup, aw_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_header_of_version_2_holds_the_servers_fields_and_leaves_the_guests),
		T(the_header_of_version_1_is_the_slides),
		T(every_level_moves_a_sector),
		T(version_1_works_in_the_copy_design),
		T(a_new_guest_with_an_old_server_agrees_on_version_1),
		T(version_1_is_refused_by_a_server_without_the_copy_levels),
		T(features_that_are_not_offered_are_refused),
		T(version_2_without_access_platform_is_refused),
		T(version_2_without_version_1_feature_is_refused),
		T(a_level_that_is_not_offered_is_refused),
		T(a_level_that_does_not_exist_is_refused),
		T(choices_changed_after_features_ok_are_refused),
		T(a_header_that_is_not_mapped_is_refused),
		T(a_header_that_is_read_only_is_refused),
		T(a_config_space_that_is_too_small_is_refused),
		T(a_queue_number_that_is_not_offered_needs_a_reset),
		T(a_misaligned_descriptor_table_needs_a_reset),
		T(a_misaligned_used_ring_needs_a_reset),
		T(a_queue_larger_than_offered_needs_a_reset),
		T(a_queue_size_that_is_no_power_of_two_needs_a_reset),
		T(driver_ok_without_a_queue_is_refused),
		T(rings_in_place_without_a_window_are_refused),
		T(half_a_queue_is_refused),
		T(a_ring_that_runs_out_of_the_dma_window_is_refused),
		T(a_disk_that_opens_no_queue_refuses_driver_ok_and_leaves_nothing),
		T(too_little_server_memory_refuses_driver_ok),
		T(a_driver_writes_the_fields_that_are_its_and_no_others),
		T(a_driver_without_flush_finds_the_cache_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
