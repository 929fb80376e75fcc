"""What an export leaves out is counted, and the first faults are kept."""

from lemon_async.batch.exports.report import Report


def test_report_keeps_the_first_faults():
    report = Report()
    for number in range(150):
        report.leave_out(f"key-{number}", "is missing")
    assert report.left_out == 150
    assert len(report.faults) == 100
    assert report.faults[0] == "key-0: is missing"
