# SPDX-License-Identifier: Apache-2.0
"""The error values."""

from twisted.trial.unittest import SynchronousTestCase

from homeserver.protocol import errors


class Errors(SynchronousTestCase):
    def test_an_error_renders_as_the_standard_object_with_its_extra_keys(self) -> None:
        error = errors.limit_exceeded(1500)
        self.assertEqual((error.status, error.retry_after_ms), (429, 1500))
        self.assertEqual(
            error.body(), {"errcode": "M_LIMIT_EXCEEDED", "error": "Too many requests", "retry_after_ms": 1500}
        )
        self.assertIsNone(errors.not_found("x").retry_after_ms)

    def test_each_kind_has_its_status_and_code(self) -> None:
        for error, status, errcode in [
            (errors.not_found(), 404, "M_NOT_FOUND"),
            (errors.forbidden(), 403, "M_FORBIDDEN"),
            (errors.bad_json("x"), 400, "M_BAD_JSON"),
            (errors.not_json(), 400, "M_NOT_JSON"),
            (errors.invalid_param("x"), 400, "M_INVALID_PARAM"),
            (errors.missing_param("x"), 400, "M_MISSING_PARAM"),
            (errors.unrecognized(), 404, "M_UNRECOGNIZED"),
            (errors.unrecognized(405), 405, "M_UNRECOGNIZED"),
            (errors.too_large("x"), 413, "M_TOO_LARGE"),
            (errors.unknown_token(), 401, "M_UNKNOWN_TOKEN"),
            (errors.missing_token(), 401, "M_MISSING_TOKEN"),
            (errors.user_in_use(), 400, "M_USER_IN_USE"),
            (errors.guest_forbidden(), 403, "M_GUEST_ACCESS_FORBIDDEN"),
            (errors.unsupported_room_version("x"), 400, "M_UNSUPPORTED_ROOM_VERSION"),
            (errors.incompatible_room_version("x"), 400, "M_INCOMPATIBLE_ROOM_VERSION"),
        ]:
            self.assertEqual((error.status, error.errcode), (status, errcode))

    def test_a_soft_logout_is_said(self) -> None:
        self.assertEqual(errors.unknown_token(soft_logout=True).extra, {"soft_logout": True})
        self.assertEqual(errors.incompatible_room_version("7").extra, {"room_version": "7"})
