def test_a_service_that_is_not_ready_lives(client, service):
    assert client.get("/ready").json() == {"status": "ready"}
    service.ready = False
    assert client.get("/ready").status_code == 503
    assert client.get("/ready").json()["error"]["reason"] == "unavailable"
    assert client.get("/health").json() == {"status": "live"}
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").status_code == 503
