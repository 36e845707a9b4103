import java.io.File;
import javax.xml.XMLConstants;
import javax.xml.transform.stream.StreamSource;
import javax.xml.validation.Schema;
import javax.xml.validation.SchemaFactory;

/** Prints a line for each file that the schema refuses: the file, a tab, and why. */
class ValidateCap {
    public static void main(String[] files) throws Exception {
        SchemaFactory factory = SchemaFactory.newInstance(XMLConstants.W3C_XML_SCHEMA_NS_URI);
        factory.setProperty(XMLConstants.ACCESS_EXTERNAL_SCHEMA, "");
        factory.setProperty(XMLConstants.ACCESS_EXTERNAL_DTD, "");
        Schema schema = factory.newSchema(new File(files[0]));
        for (int at = 1; at < files.length; at++) {
            try {
                schema.newValidator().validate(new StreamSource(new File(files[at])));
            } catch (org.xml.sax.SAXException refusal) {
                System.out.println(files[at] + "\t" + refusal.getMessage());
            }
        }
    }
}
