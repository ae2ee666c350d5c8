// AWS' SDK for JavaScript against the server at BEDROCK_URL; prints what it understood.
const { BedrockRuntimeClient, ConverseCommand, ConverseStreamCommand, InvokeModelCommand,
  InvokeModelWithResponseStreamCommand } = require("@aws-sdk/client-bedrock-runtime");

const { NodeHttpHandler } = require("@smithy/node-http-handler");

const model = "us.meta.llama4-scout-17b-instruct-v1:0";
const messages = [{ role: "user", content: [{ text: "hi there, naïve 日本 🦙" }] }];
const make = (secretAccessKey) => new BedrockRuntimeClient({
  region: "us-east-1", endpoint: process.env.BEDROCK_URL, maxAttempts: 1,
  requestHandler: new NodeHttpHandler(),  // HTTP/1.1
  credentials: { accessKeyId: process.env.BEDROCK_KEY, secretAccessKey },
});

async function main() {
  const found = {};
  const client = make(process.env.BEDROCK_SECRET);
  const whole = await client.send(new ConverseCommand({ modelId: model, messages }));
  found.converse = [whole.output.message.content[0].text, whole.stopReason, whole.usage.outputTokens];
  const { stream } = await client.send(new ConverseStreamCommand({ modelId: model, messages }));
  found.text = "";
  for await (const event of stream) {
    found.text += event.contentBlockDelta?.delta?.text ?? "";
    found.stop = event.messageStop?.stopReason ?? found.stop;
    found.read = event.metadata?.usage?.inputTokens ?? found.read;
  }
  const body = JSON.stringify({ prompt: "Once upon a time", max_gen_len: 3 });
  const invoked = await client.send(new InvokeModelCommand({ modelId: model, body }));
  found.invoked = JSON.parse(Buffer.from(invoked.body).toString()).generation;
  const chunks = await client.send(new InvokeModelWithResponseStreamCommand({ modelId: model, body }));
  found.chunks = "";
  for await (const event of chunks.body)
    found.chunks += JSON.parse(Buffer.from(event.chunk.bytes).toString()).generation;
  try {
    const { stream: broken } = await client.send(new ConverseStreamCommand({ modelId: model, messages }));
    for await (const _ of broken);
  } catch (error) { found.within = error.name; }
  try { await client.send(new ConverseCommand({ modelId: "nobodys.model", messages })); }
  catch (error) { found.invalid = error.name; }
  try { await make("wrong").send(new ConverseCommand({ modelId: model, messages })); }
  catch (error) { found.wrong = [error.name, error.$metadata.httpStatusCode]; }
  console.log(JSON.stringify(found));
}

main();
